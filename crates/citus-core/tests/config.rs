//! The configuration as an operator meets it: every sample file that ships, good and bad, the
//! environment, and text that is no configuration at all.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests may panic as the tests may"
)]

#[path = "config/arbitrary.rs"]
mod arbitrary;
#[path = "config/workers.rs"]
mod workers;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use citus_core::config::{
    Config, ConfigError, ConvertError, Origin, Password, Secret, Workers, convert,
};
use citus_core::policy::{Policy, Write};
use dcs_watch::key::ScopeId;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn samples() -> PathBuf {
    root().join("testdata/config")
}

/// Reads below `testdata/config`, so that messages show short paths.
fn read_sample(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(samples().join(path))
}

fn no_env(_: &str) -> Option<String> {
    None
}

/// The sample `path` in an empty environment.
fn load(path: &str) -> Result<Config, ConfigError> {
    Config::load(Path::new(path), &no_env, &read_sample)
}

/// `text` as the file `c.yml`, in the environment `env`, beside the named `files`.
fn load_text(
    text: &str,
    env: &[(&str, &str)],
    files: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    let env = |name: &str| {
        env.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    };
    let read = |path: &Path| {
        if path == Path::new("/etc/c.yml") {
            return Ok(text.to_owned());
        }
        files
            .iter()
            .find(|(name, _)| Path::new(name) == path)
            .map(|(_, text)| (*text).to_owned())
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    Config::load(Path::new("/etc/c.yml"), &env, &read)
}

const MINIMAL: &str = "etcd: {endpoints: ['http://127.0.0.1:2379']}\n\
                       coordinator: {scope: cn, databases: [postgres]}\n\
                       workers: [{group: 1, scope: wk1}]\n";

fn yaml_files(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(samples().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|ext| ext == "yml"))
        .map(|name| format!("{folder}/{name}"))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no samples in {folder}");
    names
}

/// Compares `text` with the `.txt` beside the sample. Yields the difference, if there is one.
fn golden(sample: &str, text: &str) -> Option<String> {
    let file = samples().join(sample).with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, text).unwrap();
        return None;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    (expected != text).then(|| format!("{sample}: expected\n{expected}\nfound\n{text}"))
}

fn report(differences: &[String]) {
    assert!(
        differences.is_empty(),
        "{}\n(UPDATE_GOLDEN=1 writes what was found)",
        differences.join("\n")
    );
}

/// The scope `wkN` for each group N, which is what etcd would have told.
fn scopes_by_number(config: &Config) -> BTreeMap<u32, ScopeId> {
    match &config.formations[0].workers {
        Workers::AtNodes(groups) => groups
            .keys()
            .map(|group| (*group, ScopeId::new(&format!("wk{group}"))))
            .collect(),
        Workers::Listed(_) | Workers::Discovered(_) => BTreeMap::new(),
    }
}

#[test]
fn good_samples_are_accepted_and_convert_as_recorded() {
    let mut differences = Vec::new();
    for sample in yaml_files("good") {
        let config = load(&sample).unwrap_or_else(|error| panic!("{sample} is refused:\n{error}"));
        let native = convert(&config, &scopes_by_number(&config)).unwrap();
        let mut text = String::new();
        for warning in &config.warnings {
            writeln!(text, "warning: {warning}").unwrap();
        }
        text.push_str(&native);
        differences.extend(golden(&sample, &text));
    }
    report(&differences);
}

#[test]
fn bad_samples_are_refused_in_the_words_recorded() {
    let mut differences = Vec::new();
    for sample in yaml_files("bad") {
        let error = load(&sample).expect_err(&format!("{sample} is accepted"));
        let text = format!("{error}\n");
        for line in text.lines().filter(|line| !line.starts_with("    ")) {
            assert!(
                line.starts_with(&sample),
                "does not begin with the file: {line}"
            );
        }
        assert!(
            !text.contains("s3cret"),
            "{sample} lets out a secret:\n{text}"
        );
        differences.extend(golden(&sample, &text));
    }
    report(&differences);
}

#[test]
fn every_problem_has_its_line() {
    for sample in yaml_files("bad") {
        let Err(ConfigError::Invalid { problems, .. }) = load(&sample) else {
            panic!("{sample}: not refused as invalid");
        };
        // An empty file has no line, and neither has the seam between two documents.
        if ["bad/empty.yml", "bad/two-documents.yml"].contains(&sample.as_str()) {
            continue;
        }
        for problem in problems {
            assert!(problem.location.is_some(), "{sample}: {problem:?}");
        }
    }
}

/// What a configuration asks for, without where it was read from and what was remarked.
fn bare(mut config: Config) -> Config {
    config.warnings.clear();
    config.source = PathBuf::new();
    config
}

#[test]
fn a_converted_file_reads_back_the_same() {
    for sample in yaml_files("good") {
        let before = load(&sample).unwrap();
        let scopes = scopes_by_number(&before);
        let native = convert(&before, &scopes).unwrap();
        // What stood in Patroni's file itself now comes from the environment.
        let key_of = |secret: Option<&Secret>| {
            secret
                .filter(|secret| matches!(secret.origin(), Origin::Key { .. }))
                .map(|secret| secret.expose().to_owned())
        };
        let postgres = match &before.formations[0].coordinator.password {
            Password::Literal(secret) => key_of(Some(secret)),
            Password::None | Password::Passfile(_) => None,
        };
        let etcd = key_of(before.etcd.password.as_ref());
        for secret in postgres.iter().chain(&etcd) {
            assert!(
                !native.contains(secret.as_str()),
                "{sample}: a secret in\n{native}"
            );
        }
        let env = |name: &str| match name {
            "PGPASSWORD" => postgres.clone(),
            "ETCD_PASSWORD" => etcd.clone(),
            _ => None,
        };
        // Beside the samples' folders, because the secrets' paths were resolved from there.
        let read = |path: &Path| {
            if path == Path::new("converted.yml") {
                Ok(native.clone())
            } else {
                read_sample(path)
            }
        };
        let after = Config::load(Path::new("converted.yml"), &env, &read)
            .unwrap_or_else(|error| panic!("{sample}, converted, is refused:\n{error}\n{native}"));
        let mut before = bare(before);
        if let Workers::AtNodes(_) = before.formations[0].workers {
            before.formations[0].workers = Workers::Listed(scopes);
        }
        assert_eq!(before, bare(after), "{sample}:\n{native}");
    }
}

#[test]
fn convert_refuses_while_a_scope_is_unknown() {
    let config = load("good/patroni.yml").unwrap();
    let known = BTreeMap::from([(1, ScopeId::new("wk1"))]);
    let error: ConvertError = convert(&config, &known).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("group 2, at 10.0.0.31:5432, 10.0.0.32:5432"),
        "{text}"
    );
    assert!(!text.contains("group 1"), "{text}");
}

#[test]
fn the_minimal_file_has_the_documented_defaults() {
    let config = load("good/minimal.yml").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8009");
    assert_eq!(config.namespace, "/service/");
    assert_eq!(config.warnings, Vec::<String>::new());
    let [formation] = config.formations.as_slice() else {
        panic!("{config:?}")
    };
    assert_eq!(formation.name, "cn");
    assert!(!formation.register);
    assert_eq!(formation.coordinator.password, Password::None);
    let policy = &formation.policy;
    assert_eq!(policy.hold_timeout, Duration::from_secs(30));
    assert_eq!(policy.lock_cooldown, Duration::from_secs(2));
    assert_eq!(policy.write, Write::Auto);
    assert_eq!(*policy, Policy::default());
}

#[test]
fn a_formation_takes_over_the_common_policy_and_changes_it_key_by_key() {
    let config = load("good/formations.yml").unwrap();
    let [first, second] = config.formations.as_slice() else {
        panic!("{config:?}")
    };
    assert_eq!(first.policy.lock_cooldown, Duration::from_secs(1));
    assert_eq!(second.policy.lock_cooldown, Duration::from_secs(3));
    assert_eq!(second.policy.reconcile_every, Duration::from_secs(30));
    assert_eq!(second.policy.write, Write::Never);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load("good/nowhere.yml").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("good/nowhere.yml: cannot be read"),
        "{error}"
    );
}

/// The files of the tests of passwords.
const PASSWORD_FILES: [(&str, &str); 4] = [
    ("/etc/pw", "from-file\n"),
    ("/etc/pass", "*:*:*:*:x\n"),
    ("/other", "*:*:*:*:y\n"),
    ("/root/.pgpass", "*:*:*:*:z\n"),
];

/// Reads a coordinator with these keys added, in this environment, and compares the password (or the
/// passfile) that it gets, and whether a warning names what was overruled.
fn assert_password(keys: &str, env: &[(&str, &str)], expected: Result<&str, &str>, warned: bool) {
    let text = MINIMAL.replace("[postgres]}", &format!("[postgres]{keys}}}"));
    let config = load_text(&text, env, &PASSWORD_FILES).unwrap();
    let found = match &config.formations[0].coordinator.password {
        Password::Literal(secret) => Ok(secret.expose().to_owned()),
        Password::Passfile(path) => Err(path.clone()),
        Password::None => panic!("{keys:?} {env:?}: no password"),
    };
    let expected = expected.map(str::to_owned).map_err(PathBuf::from);
    assert_eq!(found, expected, "{keys:?} {env:?}");
    let warnings = &config.warnings;
    assert_eq!(
        !warnings.is_empty(),
        warned,
        "{keys:?} {env:?}: {warnings:?}"
    );
}

#[test]
fn passwords_come_from_the_environment_the_file_or_a_passfile_in_that_order() {
    let home = ("HOME", "/root");
    let password = ("PGPASSWORD", "env");
    let passfile = ("PGPASSFILE", "/other");
    let file = ", password_file: pw";
    assert_password(file, &[home], Ok("from-file"), false);
    assert_password(file, &[("PGPASSWORD", "")], Ok("from-file"), false);
    assert_password(file, &[passfile], Ok("from-file"), false);
    assert_password(", password_file: /etc/pw", &[password], Ok("env"), true);
    let pass = ", passfile: pass";
    assert_password(pass, &[home], Err("/etc/pass"), false);
    assert_password(pass, &[passfile], Err("/other"), true);
    assert_password(pass, &[password], Ok("env"), true);
    assert_password("", &[password, home], Ok("env"), false);
    assert_password("", &[passfile, home], Err("/other"), false);
    assert_password("", &[home], Err("/root/.pgpass"), false);
}

#[test]
fn a_password_is_not_required_but_a_passfile_that_is_named_is() {
    let config = load_text(MINIMAL, &[("HOME", "/nowhere")], &[]).unwrap();
    assert_eq!(config.formations[0].coordinator.password, Password::None);
    let error = load_text(MINIMAL, &[("PGPASSFILE", "/nowhere")], &[]).unwrap_err();
    assert!(error.to_string().contains("PGPASSFILE=/nowhere"), "{error}");
}

#[test]
fn the_etcd_password_may_come_from_the_environment() {
    let text = MINIMAL.replace("etcd: {", "etcd: {username: cs, ");
    let env = [("ETCD_PASSWORD", "from-env")];
    let config = load_text(&text, &env, &[]).unwrap();
    assert_eq!(config.etcd.username.as_deref(), Some("cs"));
    assert_eq!(config.etcd.password.unwrap().expose(), "from-env");

    let config = load_text(MINIMAL, &env, &[]).unwrap();
    assert_eq!(config.etcd.password, None);
    assert!(
        config.warnings[0].contains("ETCD_PASSWORD"),
        "{:?}",
        config.warnings
    );
}

#[test]
fn the_token_comes_from_the_environment_or_from_a_file_of_its_own() {
    let long = "0123456789abcdef-from-file";
    let files = [("/etc/token", "0123456789abcdef-from-file\r\n")];
    let named = format!("{MINIMAL}token_file: token\n");
    let env = [("CITUS_SYNC_TOKEN", "0123456789abcdef-from-env")];
    let token = |text: &str, env: &[(&str, &str)]| {
        let config = load_text(text, env, &files).unwrap();
        let token = config.token.map(|token| token.expose().to_owned());
        (token, config.warnings)
    };
    assert_eq!(token(MINIMAL, &[]), (None, vec![]));
    assert_eq!(token(&named, &[]), (Some(long.to_owned()), vec![]));
    assert_eq!(
        token(&named, &[("CITUS_SYNC_TOKEN", "")]).0.as_deref(),
        Some(long),
        "an empty variable is none"
    );
    assert_eq!(token(MINIMAL, &env), (Some(env[0].1.to_owned()), vec![]));
    let (found, warnings) = token(&named, &env);
    assert_eq!(found.as_deref(), Some(env[0].1));
    assert!(warnings[0].contains("token_file: not used"), "{warnings:?}");
    let (_, warnings) = token(MINIMAL, &[("CITUS_SYNC_TOKEN", "hunter2")]);
    assert!(warnings[0].contains("shorter than 16"), "{warnings:?}");
    assert!(!warnings[0].contains("hunter2"), "{warnings:?}");

    let bad = load_text(MINIMAL, &[("CITUS_SYNC_TOKEN", "two words")], &[]).unwrap_err();
    let text = bad.to_string();
    assert!(
        text.contains("CITUS_SYNC_TOKEN in the environment, which has spaces"),
        "{text}"
    );
    assert!(!text.contains("two words"), "{text}");
}

#[test]
fn patronis_file_takes_the_token_from_the_environment() {
    let env = |name: &str| (name == "CITUS_SYNC_TOKEN").then(|| "0123456789abcdef".to_owned());
    let config = Config::load(Path::new("good/patroni.yml"), &env, &read_sample).unwrap();
    assert_eq!(config.token.as_ref().unwrap().expose(), "0123456789abcdef");
    let native = convert(&config, &scopes_by_number(&config)).unwrap();
    assert!(
        native.contains("# The token comes from CITUS_SYNC_TOKEN in the environment."),
        "{native}"
    );
    assert!(!native.contains("0123456789abcdef"), "{native}");
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let env = [
        ("PGPASSWORD", "s3cret"),
        ("ETCD_PASSWORD", "s3cret"),
        ("CITUS_SYNC_TOKEN", "s3cret"),
    ];
    let text = MINIMAL.replace("etcd: {", "etcd: {username: cs, ");
    let shown = format!("{:?}", load_text(&text, &env, &[]).unwrap());
    assert!(
        shown.contains("***") && !shown.contains("s3cret"),
        "{shown}"
    );
}

/// Files under `deploy/` that are configurations of this program: they name an etcd and a
/// coordinator.
fn shipped(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            shipped(&path, found);
        } else if path
            .extension()
            .is_some_and(|ext| ext == "yml" || ext == "yaml")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            let has = |key: &str| text.lines().any(|line| line.starts_with(key));
            if has("etcd:") && (has("coordinator:") || has("formations:")) {
                found.push(path);
            }
        }
    }
}

/// Files the samples name exist on the operator's host, not here.
fn read_or_pretend(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path).or_else(|_| Ok("pretended\n".to_owned()))
}

#[test]
fn the_files_under_deploy_are_accepted() {
    let mut files = Vec::new();
    shipped(&root().join("deploy"), &mut files);
    for file in files {
        let config = Config::load(&file, &no_env, &read_or_pretend);
        assert!(config.is_ok(), "{}", config.unwrap_err());
    }
}

#[test]
fn the_readme_shows_configurations_that_are_accepted() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap_or_default();
    for block in readme.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        if !block.contains("coordinator:") {
            continue;
        }
        let read = |path: &Path| {
            if path == Path::new("README.md") {
                Ok(block.to_owned())
            } else {
                read_or_pretend(path)
            }
        };
        let config = Config::load(Path::new("README.md"), &no_env, &read);
        assert!(config.is_ok(), "{}", config.unwrap_err());
    }
}
