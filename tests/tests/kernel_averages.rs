//! Load and pressure averages, tested on the host: the file is the kernel's own, and uses nothing else of it.

#[path = "../../kernel/src/load/averages.rs"]
mod averages;

use averages::{Fixed, LoadAverages, StallAverages};

const S: u64 = 1_000_000_000;

fn number(shown: impl std::fmt::Display) -> f64 {
    shown.to_string().parse().expect("a decimal number")
}

/// The three averages and the total of a line.
fn parse(stalls: &StallAverages) -> [f64; 4] {
    let text = stalls.to_string();
    let values: Vec<f64> = text.split(' ').map(|word| number(word.split_once('=').expect("name=value").1)).collect();
    values.try_into().expect("four values")
}

#[test]
fn a_number_shows_two_decimals() {
    assert_eq!(Fixed::whole(0).to_string(), "0.00");
    assert_eq!(Fixed::whole(12).to_string(), "12.00");
}

#[test]
fn sysinfo_counts_in_parts_of_2_to_the_16th() {
    assert_eq!(Fixed::whole(3).with_16_bits(), 3 << 16);
}

#[test]
fn load_approaches_what_is_active_with_its_time_constant() {
    let mut load = LoadAverages::new();
    for second in 1..=60 {
        load.sample(second * S, 2);
    }
    // After one time constant: 1 - 1/e of the way.
    let [one, five, fifteen] = load.shown().map(number);
    assert!((one - 2.0 * (1.0 - (-1.0_f64).exp())).abs() < 0.03, "{one}");
    assert!((five - 2.0 * (1.0 - (-0.2_f64).exp())).abs() < 0.03, "{five}");
    assert!((fifteen - 2.0 * (1.0 - (-1.0_f64 / 15.0).exp())).abs() < 0.03, "{fifteen}");
}

#[test]
fn a_long_sleep_is_as_many_samples_as_it_should_have_been() {
    let (mut awake, mut asleep) = (LoadAverages::new(), LoadAverages::new());
    for second in 1..=300 {
        awake.sample(second * S, 1);
    }
    asleep.sample(300 * S, 1);
    for (awake, asleep) in awake.shown().map(number).into_iter().zip(asleep.shown().map(number)) {
        assert!((awake - asleep).abs() < 0.02, "{awake} {asleep}");
    }
}

#[test]
fn stalls_are_percent_of_time_and_decay_with_their_time_constant() {
    let mut stalls = StallAverages::new();
    // Half of the time for ten seconds, then never.
    for half_second in 1..=20 {
        stalls.add(S / 4);
        stalls.sample(half_second * S / 2);
    }
    let [ten, sixty, five_minutes, total] = parse(&stalls);
    assert!((ten - 50.0 * (1.0 - (-1.0_f64).exp())).abs() < 1.0, "{ten}");
    assert!((sixty - 50.0 * (1.0 - (-1.0_f64 / 6.0).exp())).abs() < 1.0, "{sixty}");
    assert!((five_minutes - 50.0 * (1.0 - (-1.0_f64 / 30.0).exp())).abs() < 1.0, "{five_minutes}");
    assert_eq!(total, 5e6, "in microseconds");
    stalls.sample(20 * S);
    let [later, ..] = parse(&stalls);
    assert!((later - ten * (-1.0_f64).exp()).abs() < 1.0, "{later} after {ten}");
    assert_eq!(stalls.due(), 22 * S);
    assert_eq!(stalls.total_ns(), 5 * S);
}

#[test]
fn whoever_is_always_stalled_is_so_for_a_hundred_percent() {
    let mut stalls = StallAverages::new();
    for second in 1..=1000 {
        stalls.add(S);
        stalls.sample(second * S);
    }
    let [ten, sixty, ..] = parse(&stalls);
    assert!((99.0..=100.0).contains(&ten) && (98.0..=100.0).contains(&sixty), "{ten} {sixty}");
}
