//! The runtime of a command that ends.

use super::outcome::Failed;

/// Runs a future to its end on this thread. What still hangs then (a name that does not resolve
/// blocks a thread for half a minute) is left behind, not waited for.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::Otherwise(format!("cannot start: {error}")))?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(result)
}
