//! etcd's JSON gateway (API v3 over HTTP). In: keys and values as text. Out: the
//! same, with their revisions. It is for preparing and checking tests; the product
//! has a client of its own.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

/// A client of one etcd endpoint.
#[derive(Clone, Debug)]
pub struct Gateway {
    agent: ureq::Agent,
    url: String,
}

/// A key, its value and its revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value; bytes that are not UTF-8 are replaced.
    pub value: String,
    /// The revision of the last change.
    pub mod_revision: i64,
    /// The revision that created the key.
    pub create_revision: i64,
    /// The lease of the key, 0 for none.
    pub lease: i64,
}

/// The status of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdStatus {
    /// The store's revision.
    pub revision: i64,
    /// The cluster's id.
    pub cluster_id: u64,
    /// The answering member's id.
    pub member_id: u64,
    /// The leader's id, 0 for none.
    pub leader: u64,
    /// The raft term.
    pub raft_term: u64,
}

impl Gateway {
    /// A client of `http://127.0.0.1:port`.
    pub fn new(port: u16) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(5)))
            .http_status_as_error(false)
            .build()
            .new_agent();
        Self {
            agent,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// Any call of the gateway: `path` is `/v3/kv/put`, for example, and `body` what etcd documents
    /// for it.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let mut response = self
            .agent
            .post(format!("{}{path}", self.url))
            .send_json(body)
            .with_context(|| format!("POST {}{path}", self.url))?;
        let status = response.status();
        let answer: Value = response
            .body_mut()
            .read_json()
            .with_context(|| format!("reading etcd's answer to {path}"))?;
        if !status.is_success() {
            bail!("etcd refused {path} ({status}): {answer}");
        }
        Ok(answer)
    }

    /// Puts a key. Returns the revision of the change.
    pub fn put(&self, key: &str, value: &str) -> Result<i64> {
        self.put_leased(key, value, 0)
    }

    /// Puts a key with a lease.
    pub fn put_leased(&self, key: &str, value: &str, lease: i64) -> Result<i64> {
        let body = json!({"key": encode(key), "value": encode(value), "lease": lease.to_string()});
        revision(&self.post("/v3/kv/put", &body)?)
    }

    /// Puts several keys in one transaction.
    pub fn put_all(&self, keys: &[(&str, &str)]) -> Result<i64> {
        let put = |(key, value): &(&str, &str)| json!({"request_put": {"key": encode(key), "value": encode(value)}});
        let puts: Vec<Value> = keys.iter().map(put).collect();
        revision(&self.post("/v3/kv/txn", &json!({"success": puts}))?)
    }

    /// Puts a value that need not be text.
    pub fn put_bytes(&self, key: &str, value: &[u8]) -> Result<i64> {
        let body = json!({"key": encode(key), "value": BASE64.encode(value)});
        revision(&self.post("/v3/kv/put", &body)?)
    }

    /// One key.
    pub fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        Ok(self.range(&json!({"key": encode(key)}))?.pop())
    }

    /// Every key that begins with `prefix`, in order.
    pub fn list(&self, prefix: &str) -> Result<Vec<KeyValue>> {
        self.range(&json!({"key": encode(prefix), "range_end": BASE64.encode(after(prefix))}))
    }

    /// Deletes one key. Returns the revision after it.
    pub fn delete(&self, key: &str) -> Result<i64> {
        revision(&self.post("/v3/kv/deleterange", &json!({"key": encode(key)}))?)
    }

    /// Deletes every key that begins with `prefix`.
    pub fn delete_prefix(&self, prefix: &str) -> Result<i64> {
        let body = json!({"key": encode(prefix), "range_end": BASE64.encode(after(prefix))});
        revision(&self.post("/v3/kv/deleterange", &body)?)
    }

    /// Compacts all history before `revision`, on disk too.
    pub fn compact(&self, revision: i64) -> Result<()> {
        let body = json!({"revision": revision.to_string(), "physical": true});
        self.post("/v3/kv/compaction", &body).map(drop)
    }

    /// Returns the freed space to the file system.
    pub fn defragment(&self) -> Result<()> {
        self.post("/v3/maintenance/defragment", &json!({}))
            .map(drop)
    }

    /// A lease of `ttl` seconds.
    pub fn grant_lease(&self, ttl: u32) -> Result<i64> {
        let answer = self.post("/v3/lease/grant", &json!({"TTL": ttl.to_string()}))?;
        number(&answer, "ID")
    }

    /// Renews a lease once.
    pub fn keep_lease(&self, lease: i64) -> Result<()> {
        self.post("/v3/lease/keepalive", &json!({"ID": lease.to_string()}))
            .map(drop)
    }

    /// Ends a lease and its keys now, as its expiry would.
    pub fn revoke_lease(&self, lease: i64) -> Result<()> {
        self.post("/v3/lease/revoke", &json!({"ID": lease.to_string()}))
            .map(drop)
    }

    /// A watch over every key that begins with `prefix`: a stream with one JSON
    /// object per line, see [`watched_keys`]. It ends with the connection.
    pub(crate) fn watch(&self, prefix: &str) -> Result<impl Read + Send + 'static> {
        let endless = ureq::Agent::config_builder().build().new_agent();
        let range_end = BASE64.encode(after(prefix));
        let body = json!({"create_request": {"key": encode(prefix), "range_end": range_end}});
        let response = endless
            .post(format!("{}/v3/watch", self.url))
            .send_json(&body)
            .with_context(|| format!("watching {prefix} at {}", self.url))?;
        Ok(response.into_body().into_reader())
    }

    /// The endpoint's status.
    pub fn status(&self) -> Result<EtcdStatus> {
        let answer = self.post("/v3/maintenance/status", &json!({}))?;
        let header = &answer["header"];
        Ok(EtcdStatus {
            revision: number(header, "revision")?,
            cluster_id: unsigned(header, "cluster_id")?,
            member_id: unsigned(header, "member_id")?,
            leader: unsigned(&answer, "leader").unwrap_or(0),
            raft_term: unsigned(header, "raft_term")?,
        })
    }

    fn range(&self, body: &Value) -> Result<Vec<KeyValue>> {
        let answer = self.post("/v3/kv/range", body)?;
        let none = Vec::new();
        answer["kvs"]
            .as_array()
            .unwrap_or(&none)
            .iter()
            .map(key_value)
            .collect()
    }
}

/// The keys of one message of a watch: each with its value, or `None` when it
/// was deleted.
pub(crate) fn watched_keys(message: &Value) -> Vec<(String, Option<String>)> {
    let none = Vec::new();
    let events = message["result"]["events"].as_array().unwrap_or(&none);
    let read = |event: &Value| -> Result<(String, Option<String>)> {
        let key = decode(&event["kv"]["key"])?;
        let deleted = event["type"] == "DELETE";
        Ok((
            key,
            if deleted {
                None
            } else {
                Some(decode(&event["kv"]["value"])?)
            },
        ))
    };
    events.iter().filter_map(|event| read(event).ok()).collect()
}

fn key_value(json: &Value) -> Result<KeyValue> {
    Ok(KeyValue {
        key: decode(&json["key"])?,
        value: decode(&json["value"])?,
        mod_revision: number(json, "mod_revision")?,
        create_revision: number(json, "create_revision")?,
        lease: number(json, "lease").unwrap_or(0),
    })
}

fn encode(text: &str) -> String {
    BASE64.encode(text)
}

/// An absent field is an empty value: the gateway leaves those out.
fn decode(json: &Value) -> Result<String> {
    let bytes = BASE64
        .decode(json.as_str().unwrap_or(""))
        .context("etcd sent bad base64")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The first key that does not begin with `prefix`.
fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0] // to etcd this means: to the last key
}

fn revision(answer: &Value) -> Result<i64> {
    number(&answer["header"], "revision")
}

/// The gateway writes 64-bit numbers as strings.
fn number(json: &Value, field: &str) -> Result<i64> {
    let text = json[field]
        .as_str()
        .with_context(|| format!("no {field} in etcd's answer {json}"))?;
    text.parse()
        .with_context(|| format!("{field} in etcd's answer is {text:?}"))
}

fn unsigned(json: &Value, field: &str) -> Result<u64> {
    let text = json[field]
        .as_str()
        .with_context(|| format!("no {field} in etcd's answer {json}"))?;
    text.parse()
        .with_context(|| format!("{field} in etcd's answer is {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(after("/service/"), b"/service0");
        assert_eq!(after(""), [0]);
    }

    #[test]
    fn a_watch_message_tells_puts_from_deletions() {
        let message = json!({"result": {"header": {}, "events": [
            {"kv": {"key": "YQ==", "value": "Yg=="}},
            {"type": "DELETE", "kv": {"key": "YQ=="}},
        ]}});
        let expected = [
            ("a".to_owned(), Some("b".to_owned())),
            ("a".to_owned(), None),
        ];
        assert_eq!(watched_keys(&message), expected);
        assert_eq!(watched_keys(&json!({"result": {"created": true}})), []);
    }

    #[test]
    fn an_absent_value_is_the_empty_one() {
        let json = json!({"key": "YQ==", "mod_revision": "7", "create_revision": "3"});
        let expected = KeyValue {
            key: "a".into(),
            value: String::new(),
            mod_revision: 7,
            create_revision: 3,
            lease: 0,
        };
        assert_eq!(key_value(&json).unwrap(), expected);
    }
}
