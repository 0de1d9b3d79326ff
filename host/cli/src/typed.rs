//! Numbers that users type as arguments. Unlike the parser of the standard library, the messages say what was expected.

/// The number of a checkpoint.
pub(crate) fn checkpoint_id(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        "a checkpoint has a number, such as 7; `floodmark checkpoint list` shows them".to_owned()
    })
}

/// A number of tasks per node. Whether it is within the bounds is for the pipeline to say, which has them.
pub(crate) fn tasks(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| {
        "a whole number of tasks is expected, from 1 to the job's `max-parallelism`".to_owned()
    })
}

/// A number of records.
pub(crate) fn records(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| "a whole number of records is expected, such as 1000".to_owned())
}
