//! Pages for a person: values go in, text comes out.
//!
//! Pure. What the daemon reports, what `plan` decided and what `check` found enter as values, the
//! present time as an argument; aligned plain text leaves. No colours: it is read in terminals,
//! mails and tickets alike.

mod findings;
mod history;
mod hold;
mod plan;
mod status;
mod table;
mod times;
mod words;

pub use findings::{Finding, Verdict, findings};
pub use history::history;
pub use hold::hold_answer;
pub use plan::{PlanLine, plan};
pub use status::status;
pub use table::Table;
pub use words::counted;
