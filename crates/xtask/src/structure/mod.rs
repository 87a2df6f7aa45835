//! `cargo xtask structure`: what the compiler cannot see of how the workspace is built.
//!
//! - [`wall`]: the pure crates have no runtime, client or server in their tree of dependencies
//! - [`homes`]: a library that only one file or folder may name
//! - [`modules`], [`references`], [`circles`]: the files of a crate, or of a test or bench that is a
//!   folder, that use each other in a circle
//! - [`lengths`]: files and functions that are long
//! - [`findings`]: all of it, for one workspace

pub mod circles;
pub mod findings;
pub mod homes;
pub mod lengths;
pub mod modules;
pub mod references;
pub mod wall;
