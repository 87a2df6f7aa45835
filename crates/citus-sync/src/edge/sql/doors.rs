//! Sessions on doors: the worker leaders through which clients send queries, too. They are opened
//! on demand, and a door that cannot be reached costs little (rule 9).

use std::sync::Arc;
use std::time::Duration;

use super::Login;

/// How long a connect to a door may take. A door is left out sooner than it is waited for.
const CONNECT: Duration = Duration::from_millis(300);

/// Sessions on the doors of one formation; cheap to clone.
#[derive(Clone, Debug)]
pub struct Doors {
    login: Arc<Login>,
}

impl Doors {
    /// No session is open yet.
    pub fn new(login: &Login) -> Self {
        Self {
            login: Arc::new(Login {
                connect_timeout: login.connect_timeout.min(CONNECT),
                ..login.clone()
            }),
        }
    }
}
