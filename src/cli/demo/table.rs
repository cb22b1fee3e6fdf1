//! What is going on, each second: a table on a terminal, else a line.

use super::summary::{offload, origin_ratio};
use crate::cli::origin::Counts;
use crate::cli::replay::engine::Engine;
use crate::cli::replay::report::{Report, Served};
use crate::cli::replay::tally::Tally;
use crate::cli::replay::verdict::Seen;
use bytesize::ByteSize;
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

/// Long lines are cut by the terminal, so that each is one line on the screen.
const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";

/// Writes to standard error, so that standard output has the results alone.
pub(super) struct Table {
    terminal: bool,
    duration: Duration,
    /// Lines on the screen that the next table replaces.
    drawn: usize,
    before: Moment,
    /// What an earlier run asked for and was served, which the origin's counts include.
    earlier: (u64, Served),
}

/// Counts at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    at: Duration,
    requests: u64,
    verdicts: [u64; Seen::ALL.len()],
}

/// All that is shown.
struct View {
    at: Duration,
    requests: u64,
    requests_per_s: f64,
    /// Shares of the answers since the last view, in percent.
    shares: Vec<(&'static str, f64)>,
    p50_us: u64,
    p99_us: u64,
    served: Served,
    unique_bytes: u64,
    errors: u64,
    mismatches: u64,
    origin: Option<Counts>,
}

impl Table {
    /// A table of a demo that asks for `duration`.
    pub(super) fn new(duration: Duration) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { terminal, duration, drawn: 0, before: Moment::default(), earlier: Default::default() }
    }

    /// The same for a run that follows `earlier`.
    pub(super) fn after(self, earlier: &Report) -> Self {
        Self { earlier: (earlier.unique_bytes, earlier.served_bytes), ..self }
    }

    /// Shows what has come since the last time.
    pub(super) fn show(&mut self, engine: &Engine, origin: Option<Counts>) {
        let (at, unique_bytes) = (engine.elapsed(), engine.unique_bytes() + self.earlier.0);
        let view = engine.tally(|tally| self.view(tally, at));
        let view = View { unique_bytes, origin, ..view };
        let text = if self.terminal { self.redraw(&view.table(self.duration)) } else { view.line() };
        // That nobody reads on is no reason to end.
        drop(io::stderr().write_all(text.as_bytes()));
    }

    fn view(&mut self, tally: &mut Tally, at: Duration) -> View {
        let now =
            Moment { at, requests: tally.requests, verdicts: Seen::ALL.map(|seen| tally.verdict(seen)) };
        let before = std::mem::replace(&mut self.before, now);
        let answered: u64 = now.verdicts.iter().sum::<u64>() - before.verdicts.iter().sum::<u64>();
        let share = |seen: Seen| {
            let count = now.verdicts[seen as usize] - before.verdicts[seen as usize];
            (seen.as_str(), count as f64 * 100.0 / answered.max(1) as f64)
        };
        let shares = Seen::ALL.into_iter().map(share).filter(|(_, share)| *share > 0.0).collect();
        let (p50_us, p99_us) = tally.take_recent();
        let seconds = at.saturating_sub(before.at).as_secs_f64().max(0.001);
        View {
            at,
            requests: now.requests,
            requests_per_s: (now.requests - before.requests) as f64 / seconds,
            shares,
            p50_us,
            p99_us,
            served: Served::of(tally).plus(self.earlier.1),
            unique_bytes: 0,
            errors: tally.errors(),
            mismatches: tally.mismatches,
            origin: None,
        }
    }

    /// The text that puts `table` in the place of the one before.
    fn redraw(&mut self, table: &str) -> String {
        let up = if self.drawn > 0 { format!("\x1b[{}A\x1b[J", self.drawn) } else { String::new() };
        self.drawn = table.lines().count();
        format!("{up}{WRAP_OFF}{table}{WRAP_ON}")
    }
}

impl View {
    fn table(&self, duration: Duration) -> String {
        let Served { memory, disk, peer, origin } = self.served;
        let [memory, disk, peer, from_origin] = [memory, disk, peer, origin].map(ByteSize);
        let shares: String =
            self.shares.iter().map(|(name, share)| format!("{name} {share:.1} %   ")).collect();
        let (at, whole) = (self.at.as_secs(), duration.as_secs());
        format!(
            "shoal demo   {at} s of {whole} s\n\
             requests     {:.0}/s   {} in all   p50 {} µs   p99 {} µs\n\
             verdicts     {}\n\
             served from  memory {memory} · disk {disk} · peers {peer} · origin {from_origin}\n\
             at origin    {}\n\
             wrong        {} errors · {} mismatches\n",
            self.requests_per_s,
            self.requests,
            self.p50_us,
            self.p99_us,
            shares.trim_end(),
            self.at_origin(),
            self.errors,
            self.mismatches,
        )
    }

    fn at_origin(&self) -> String {
        let Some(Counts { requests, bytes, .. }) = self.origin else { return "no answer".to_owned() };
        let (ratio, spared) = (origin_ratio(bytes, self.unique_bytes), offload(bytes, self.served.total()));
        let bytes = ByteSize(bytes);
        format!("{requests} requests · {bytes} · ratio {ratio:.3} · offload {:.1} %", spared * 100.0)
    }

    fn line(&self) -> String {
        let shares: String = self.shares.iter().map(|(name, share)| format!(" {name}={share:.1}%")).collect();
        format!(
            "t={}s requests={} rate={:.0}/s p50={}us p99={}us errors={} mismatches={}{shares} origin: {}\n",
            self.at.as_secs(),
            self.requests,
            self.requests_per_s,
            self.p50_us,
            self.p99_us,
            self.errors,
            self.mismatches,
            self.at_origin(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::replay::tally::Answer;

    fn answered(tally: &mut Tally, seen: Seen, count: usize) {
        let time = Duration::from_micros(100);
        (0..count).for_each(|_| tally.answered(&Answer { seen, bytes: 10, head: time, whole: time }));
    }

    #[test]
    fn shares_and_rates_are_of_the_time_since_the_last_view() {
        let (mut tally, mut table) = (Tally::new(), Table::new(Duration::from_secs(30)));
        answered(&mut tally, Seen::Origin, 10);
        table.view(&mut tally, Duration::from_secs(1));
        answered(&mut tally, Seen::Origin, 1);
        answered(&mut tally, Seen::HitMemory, 3);
        let view = table.view(&mut tally, Duration::from_secs(3));
        assert_eq!((view.requests, view.requests_per_s), (14, 2.0));
        assert_eq!(view.shares, [("hit_memory", 75.0), ("origin", 25.0)]);
        assert_eq!((view.p50_us, view.served.memory, view.served.origin), (100, 30, 110));
    }

    #[test]
    fn a_table_takes_the_place_of_the_one_before() {
        let mut table = Table::new(Duration::from_secs(30));
        let drawn = |text: &str| format!("{WRAP_OFF}{text}{WRAP_ON}");
        assert_eq!(table.redraw("a\nb\n"), drawn("a\nb\n"));
        assert_eq!(table.redraw("c\n"), "\x1b[2A\x1b[J".to_owned() + &drawn("c\n"));
        assert_eq!(table.redraw("d\n"), "\x1b[1A\x1b[J".to_owned() + &drawn("d\n"));
    }
}
