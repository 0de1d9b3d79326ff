//! Prints the results of a crash test: a table of all points, and below it the differences.

use crate::CommandError;
use crate::crash_test::runs::{OutputDifference, PointTested, Undecided, Verdict};
use crate::failure::EXIT_FAILED;
use floodmark_engine::session::number::things;

/// The failure of a test that cannot give a result.
pub(super) fn undecidable(undecided: Undecided) -> CommandError {
    let message = match undecided {
        Undecided::Failed(reason) => {
            format!(
                "the pipeline does not run to its end, so there is nothing to compare: {reason}"
            )
        }
        Undecided::NotDeterministic(differences) => format!(
            "two undisturbed runs wrote different lines, so the pipeline is not deterministic, and the test cannot tell whether a crash has changed its output: after a crash, records since the last checkpoint are read again and may give lines that differ from those already visible; look for times, random numbers, or results that depend on the order of several inputs\n{}",
            differing(&differences)
        ),
        Undecided::Interrupted => "interrupted".to_owned(),
    };
    CommandError::new(EXIT_FAILED, message)
}

/// Whether the output was not exactly once at this point.
pub(super) fn is_wrong(tested: &PointTested) -> bool {
    !matches!(tested.verdict, Verdict::ExactlyOnce | Verdict::NotReached)
}

fn differing(differences: &[OutputDifference]) -> String {
    let lines = differences.iter().flat_map(|difference| {
        let head = format!(
            "  sink `{}`: {} missing, {} extra",
            difference.sink,
            things(difference.missing, "line"),
            difference.extra
        );
        let shown = difference.shown.iter().map(|line| format!("    {line}"));
        std::iter::once(head).chain(shown)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The table of all points, and below it the differences.
pub(super) fn shown(tested: &[PointTested]) -> String {
    let mut table = format!("{:<20}  killed  recovering  output\n", "point");
    let mut wrong = String::new();
    for tested in tested {
        let name = tested.point.name();
        let verdict = match &tested.verdict {
            Verdict::ExactlyOnce => "exactly once",
            Verdict::OtherOrder => "exactly once, but in another order",
            Verdict::NotReached => "not reached, so not tested",
            Verdict::Interrupted => "interrupted",
            Verdict::Differs(differences) => {
                wrong += &format!("\n{name}\n{}\n", differing(differences));
                "DIFFERS"
            }
            Verdict::Failed(reason) => {
                wrong += &format!("\n{name}\n  {reason}\n");
                "DOES NOT RECOVER"
            }
        };
        table += &format!(
            "{name:<20}  {:>6}  {:>10}  {verdict}\n",
            tested.kills, tested.kills_recovering
        );
    }
    let is = |verdict: &Verdict| {
        tested
            .iter()
            .filter(|tested| tested.verdict == *verdict)
            .count()
    };
    let kills = tested
        .iter()
        .map(|tested| tested.kills + tested.kills_recovering);
    let unreached = match is(&Verdict::NotReached) {
        0 => String::new(),
        count => format!(
            ", not reached: {count} (more input, or a run that takes longer, gives more checkpoints)"
        ),
    };
    format!(
        "{table}\nexactly once at {} of {}, after {}{unreached}\n{wrong}",
        is(&Verdict::ExactlyOnce),
        things(tested.len() as u64, "point"),
        things(kills.sum::<u32>().into(), "kill")
    )
}
