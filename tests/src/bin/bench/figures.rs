//! Figures: what was measured, round by round, and whether it is what the project asks of itself.
//!
//! Owns medians, spreads, ratios, and the two forms in which they are written: a table in Markdown and a list in JSON.

use std::fmt::Write;

use serde_json::{Value, json};

/// One figure of one system, a value for each round.
#[derive(Clone, Debug, Default)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 { sorted[middle] } else { sorted[middle - 1].midpoint(sorted[middle]) }
    }

    /// From the least to the most, as a part of the median.
    pub fn spread(&self) -> f64 {
        let sorted = self.sorted();
        let range = sorted[sorted.len() - 1] - sorted[0];
        if range > 0.0 { range / self.median() } else { 0.0 }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        assert!(!sorted.is_empty(), "a figure is of at least one round");
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// What is asked of a figure.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Ebb's value, at most.
    AtMost(f64),
    /// Ebb's value, at least.
    AtLeast(f64),
    /// Ebb's value by Linux', at most.
    RatioAtMost(f64),
}

/// Linux beside it.
#[derive(Clone, Debug)]
pub struct Beside {
    /// How it was set.
    pub setting: &'static str,
    /// Its values in the same rounds.
    pub samples: Samples,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What, with its unit.
    pub what: String,
    pub ebb: Samples,
    pub linux: Option<Beside>,
    pub target: Option<Target>,
}

/// How a figure does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Missed,
    /// Nothing is asked, or there was nothing to compare with.
    Open,
}

impl Figure {
    /// Ebb alone.
    pub fn new(what: impl Into<String>, ebb: Samples) -> Self {
        Self { what: what.into(), ebb, linux: None, target: None }
    }

    /// With what is asked of it.
    pub fn target(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Beside the setting of Linux whose median is the least.
    pub fn beside(self, settings: Vec<Beside>) -> Self {
        let best = settings.into_iter().min_by(|a, b| a.samples.median().total_cmp(&b.samples.median()));
        Self { linux: best, ..self }
    }

    /// Round by round.
    pub fn ratios(&self) -> Option<Samples> {
        let Beside { samples, .. } = self.linux.as_ref()?;
        let ratio = |(ebb, linux): (&f64, &f64)| ebb / linux;
        (samples.0.iter().all(|value| *value > 0.0))
            .then(|| Samples(self.ebb.0.iter().zip(&samples.0).map(ratio).collect()))
    }

    /// A figure is missed if its median and its second-best round both are: this machine has neighbours.
    pub fn verdict(&self) -> Verdict {
        let (values, sign, bound) = match self.target {
            Some(Target::AtMost(bound)) => (Some(self.ebb.clone()), 1.0, bound),
            Some(Target::AtLeast(bound)) => (Some(self.ebb.clone()), -1.0, bound),
            Some(Target::RatioAtMost(bound)) => (self.ratios(), 1.0, bound),
            None => return Verdict::Open,
        };
        let Some(values) = values else { return Verdict::Open };
        let costs = Samples(values.0.iter().map(|value| sign * value).collect());
        let sorted = costs.sorted();
        let second_best = sorted[1.min(sorted.len() - 1)];
        if costs.median().min(second_best) <= sign * bound { Verdict::Met } else { Verdict::Missed }
    }

    fn asked(&self) -> String {
        match self.target {
            Some(Target::AtMost(bound)) => format!("≤ {}", shown(bound)),
            Some(Target::AtLeast(bound)) => format!("≥ {}", shown(bound)),
            Some(Target::RatioAtMost(bound)) => format!("ratio ≤ {}", shown(bound)),
            None => String::new(),
        }
    }

    /// With all its rounds.
    pub fn json(&self, program: &str) -> Value {
        let linux = self.linux.as_ref().map(|linux| json!({ "setting": linux.setting, "rounds": linux.samples.0 }));
        json!({
            "program": program,
            "what": self.what,
            "ebb": self.ebb.0,
            "linux": linux,
            "ratios": self.ratios().map(|ratios| ratios.0),
            "asked": self.asked(),
            "met": match self.verdict() {
                Verdict::Met => json!(true),
                Verdict::Missed => json!(false),
                Verdict::Open => Value::Null,
            },
        })
    }
}

/// Three digits, or all of them if they are before the point.
fn shown(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn with_spread(samples: &Samples) -> String {
    let spread = samples.spread() * 100.0;
    if spread < 0.05 { shown(samples.median()) } else { format!("{} ± {spread:.0} %", shown(samples.median())) }
}

/// A table of figures.
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::from("| figure | Ebb | Linux | ratio | asked | |\n|---|---:|---:|---:|---|---|\n");
    for figure in figures {
        let linux = figure.linux.as_ref().map_or_else(String::new, |linux| {
            let setting = if linux.setting == "default" { String::new() } else { format!(" ({})", linux.setting) };
            with_spread(&linux.samples) + &setting
        });
        let ratio = figure.ratios().as_ref().map_or_else(String::new, with_spread);
        let verdict = match figure.verdict() {
            Verdict::Met => "met",
            Verdict::Missed => "**missed**",
            Verdict::Open => "",
        };
        let (what, ebb, asked) = (&figure.what, with_spread(&figure.ebb), figure.asked());
        writeln!(text, "| {what} | {ebb} | {linux} | {ratio} | {asked} | {verdict} |").expect("a string takes it");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Beside, Figure, Samples, Target, Verdict, table};

    fn ebb(rounds: &[f64]) -> Figure {
        Figure::new("a figure", Samples(rounds.to_vec()))
    }

    fn linux(setting: &'static str, rounds: &[f64]) -> Beside {
        Beside { setting, samples: Samples(rounds.to_vec()) }
    }

    #[test]
    fn a_figure_is_missed_only_if_its_median_and_its_second_best_round_are() {
        let verdict = |rounds: &[f64]| ebb(rounds).target(Target::AtMost(10.0)).verdict();
        assert_eq!(verdict(&[9.0, 9.0, 11.0]), Verdict::Met, "the median is good");
        assert_eq!(verdict(&[9.0, 11.0, 11.0]), Verdict::Missed, "the best round alone proves nothing");
        assert_eq!(verdict(&[11.0, 9.0, 12.0, 10.0, 11.0]), Verdict::Met, "the second-best round is good");
        assert_eq!(verdict(&[11.0, 9.0, 12.0, 10.5, 11.0]), Verdict::Missed);
        assert_eq!(verdict(&[9.0, 10.9]), Verdict::Met, "of two rounds the median is the mean");
        assert_eq!(verdict(&[9.0]), Verdict::Met);
        assert_eq!(verdict(&[11.0]), Verdict::Missed);
    }

    #[test]
    fn at_least_is_judged_from_the_other_end() {
        let verdict = |rounds: &[f64]| ebb(rounds).target(Target::AtLeast(10.0)).verdict();
        assert_eq!(verdict(&[11.0, 11.0, 9.0]), Verdict::Met);
        assert_eq!(verdict(&[11.0, 9.0, 9.0]), Verdict::Missed);
        assert_eq!(verdict(&[8.0, 9.0, 9.0, 10.0, 11.0]), Verdict::Met);
    }

    #[test]
    fn a_bound_is_compared_with_what_was_measured_and_not_with_what_is_shown() {
        let over = ebb(&[1.1004]).target(Target::AtMost(1.1));
        assert!(table(std::slice::from_ref(&over)).contains("| 1.10 |  |  | ≤ 1.10 | **missed** |"));
        assert_eq!(over.verdict(), Verdict::Missed);
        assert_eq!(ebb(&[1.1]).target(Target::AtMost(1.1)).verdict(), Verdict::Met, "the bound itself is enough");
        assert_eq!(ebb(&[13_999.9]).target(Target::AtLeast(14_000.0)).verdict(), Verdict::Missed);
    }

    #[test]
    fn a_ratio_is_of_the_rounds_that_were_run_in_turn() {
        let figure = ebb(&[1.0, 4.0, 3.0]).beside(vec![linux("default", &[4.0, 4.0, 4.0])]);
        let figure = figure.target(Target::RatioAtMost(0.7));
        let ratios = figure.ratios().expect("there is a Linux");
        assert_eq!(ratios.0, [0.25, 1.0, 0.75]);
        assert_eq!(figure.verdict(), Verdict::Missed, "0.75 is the median and the second best");
        assert_eq!(Figure { target: Some(Target::RatioAtMost(0.75)), ..figure }.verdict(), Verdict::Met);
    }

    #[test]
    fn linux_stands_there_with_its_best_setting() {
        let figure = ebb(&[1.0]).beside(vec![linux("default", &[3.0]), linux("zswap", &[2.0])]);
        assert_eq!(figure.linux.as_ref().expect("there is a Linux").setting, "zswap");
        assert!(table(&[figure]).contains("| 2.00 (zswap) | 0.50 |"));
    }

    #[test]
    fn without_a_linux_or_a_bound_nothing_is_judged() {
        assert_eq!(ebb(&[1.0]).verdict(), Verdict::Open);
        assert_eq!(ebb(&[1.0]).target(Target::RatioAtMost(0.5)).verdict(), Verdict::Open);
        let nothing = ebb(&[1.0]).beside(vec![linux("default", &[0.0])]).target(Target::RatioAtMost(0.5));
        assert_eq!(nothing.verdict(), Verdict::Open, "there is no ratio to nothing");
    }

    #[test]
    fn spreads_are_from_the_least_to_the_most_by_the_median() {
        let samples = Samples(vec![12.0, 9.0, 10.0]);
        assert_eq!((samples.median(), samples.spread()), (10.0, 0.3));
        assert_eq!(Samples(vec![1.0, 3.0]).median(), 2.0);
        assert_eq!(Samples(vec![0.0, 0.0]).spread(), 0.0);
    }
}
