//! One task for each group: it waits, feeds [`citus_core::group`] what it hears, and carries out what that
//! says. It makes no choice.
//!
//! From the bottom up: `context` is what the groups of a formation share; `orders` executes one order in
//! one database; `questions` asks beside the orders; `driver` is the task.

mod context;
mod driver;
mod neighbourhood;
mod orders;
mod questions;

pub use context::{ASKED_AT_ONCE, Context};
pub use driver::GroupDriver;
pub use neighbourhood::Neighbourhood;
