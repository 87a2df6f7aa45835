//! Holds, read moves and their ends, on a coordinator and two workers of this machine, with Citus
//! where it is installed and its stand-in otherwise. The stand-in has two modes of locks only, so
//! that writes to reference tables do not wait there, and no metadata sync of its own.

mod ending;
mod fixture;
mod held;
mod holding;
mod limits;
mod moving;
mod overtaken;
mod questions;
mod servers;
mod session;
mod skipped;
