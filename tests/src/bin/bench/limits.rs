//! Limits: how little RAM is enough, how large a reservation can be.
//!
//! Each is looked for a machine a step. One that has too little RAM may get nowhere at all and has half a minute, many
//! times what one with enough takes; a large reservation takes the time that its pages take.

use std::fmt;
use std::time::Duration;

use super::cases::{Bench, one};
use super::figures::{Beside, Figure, Target};
use super::guest::{Machine, System};
use super::linux::DEFAULT;

const LITTLE_RAM: Duration = Duration::from_secs(30);
const LARGE_RESERVATION: Duration = Duration::from_secs(300);
/// No machine comes near in so little RAM.
const TOO_LITTLE_MIB: u64 = 2;
/// So many that every slot of 1 GiB of swap holds a page: one of each 4 MiB is touched.
const MOST_GIB: u64 = 1024;

impl Bench {
    /// How little RAM, how large a reservation.
    pub fn limits(&self) -> Vec<Figure> {
        let least = "smallest RAM that ends `random mib=32 ops=8192` well with 256 MiB of swap, MiB";
        let most = "largest `lazy gib=` that ends well (with 1024 all of swap is in use; more is not tried)";
        vec![
            self.limit(least, |system| self.least_ram(system)).target(Target::AtMost(12.0)),
            self.limit(most, |system| self.largest_reservation(system)).target(Target::AtLeast(128.0)),
        ]
    }

    fn least_ram(&self, system: System<'_>) -> u64 {
        let machine = self.machine("random mib=32 ops=8192").swap_mib(256).limit(LITTLE_RAM);
        bisect(64, TOO_LITTLE_MIB, 1, |mib| {
            self.ends_well(&machine.clone().ram_mib(mib), system, format_args!(" in {mib} MiB of RAM"))
        })
    }

    fn largest_reservation(&self, system: System<'_>) -> u64 {
        let well = |gib| {
            let machine = self.machine(&format!("lazy gib={gib}")).limit(LARGE_RESERVATION);
            self.ends_well(&machine, system, format_args!(""))
        };
        let mut good = 16;
        while good < MOST_GIB && well(good * 4) {
            good *= 4;
        }
        if good < MOST_GIB { bisect(good, good * 4, good / 4, well) } else { good }
    }

    fn limit(&self, what: &str, measure: impl Fn(System<'_>) -> u64) -> Figure {
        let ebb = one(measure(System::Ebb) as f64);
        let linux = self.linux.as_ref().map(|linux| measure(System::Linux(linux, &DEFAULT)) as f64);
        let beside = linux.map(|linux| Beside { setting: DEFAULT.name, samples: one(linux) });
        Figure::new(what, ebb).beside(beside.into_iter().collect())
    }

    fn ends_well(&self, machine: &Machine, system: System<'_>, with: fmt::Arguments<'_>) -> bool {
        let well = machine.run(system).well();
        let name = if matches!(system, System::Ebb) { "Ebb" } else { "Linux" };
        self.progress(format_args!("{name} {}{with}: {}", machine.arguments, if well { "well" } else { "not" }));
        well
    }
}

/// The last of what is good between that and what is bad, to within `step`.
fn bisect(mut good: u64, mut bad: u64, step: u64, is_good: impl Fn(u64) -> bool) -> u64 {
    while good.abs_diff(bad) > step.max(1) {
        let middle = u64::midpoint(good, bad);
        if is_good(middle) { good = middle } else { bad = middle }
    }
    good
}

#[cfg(test)]
mod tests {
    use super::bisect;

    #[test]
    fn the_last_good_value_is_found_on_either_side() {
        assert_eq!(bisect(64, 2, 1, |mib| mib >= 6), 6);
        assert_eq!(bisect(64, 2, 1, |_| false), 64, "what was taken for good stays");
        assert_eq!(bisect(64, 2, 1, |_| true), 3);
        assert_eq!(bisect(32, 64, 4, |gib| gib <= 47), 44);
    }
}
