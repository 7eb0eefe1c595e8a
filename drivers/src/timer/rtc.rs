//! The date from the CMOS clock (MC146818; the PC's extensions for 24-hour, binary and century).
//!
//! Owns reading it consistently and the calendar arithmetic. Read once at boot; after that, time comes from counters.
#![expect(unsafe_code, reason = "takes possession of the CMOS ports")]

use x86_64::instructions::port::Port;

/// Seconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixSeconds(pub u64);

/// CMOS registers, one byte each.
pub trait Cmos {
    /// Reads one register.
    fn read(&mut self, register: u8) -> u8;
}

/// The CMOS behind ports 0x70 and 0x71.
pub struct CmosPorts {
    index: Port<u8>,
    data: Port<u8>,
}

impl CmosPorts {
    /// Takes the ports.
    ///
    /// # Safety
    ///
    /// To be called in ring 0, and nobody else uses ports 0x70 and 0x71.
    pub unsafe fn new() -> Self {
        Self { index: Port::new(0x70), data: Port::new(0x71) }
    }
}

impl Cmos for CmosPorts {
    fn read(&mut self, register: u8) -> u8 {
        // Bit 7 of the index keeps NMIs masked while index and data belong together; it is cleared again, because a
        // masked NMI hides faults. SAFETY: the ports are ours by the promise to `new`, and reading the clock's
        // registers changes nothing but its interrupt flags.
        unsafe {
            self.index.write(register | 0x80);
            let value = self.data.read();
            self.index.write(0x0d);
            value
        }
    }
}

mod register {
    pub(super) const SECONDS: u8 = 0x00;
    pub(super) const MINUTES: u8 = 0x02;
    pub(super) const HOURS: u8 = 0x04;
    pub(super) const DAY: u8 = 0x07;
    pub(super) const MONTH: u8 = 0x08;
    pub(super) const YEAR: u8 = 0x09;
    pub(super) const STATUS_A: u8 = 0x0a;
    pub(super) const STATUS_B: u8 = 0x0b;
    pub(super) const CENTURY: u8 = 0x32;
}

const UPDATE_IN_PROGRESS: u8 = 1 << 7;
const MODE_24_HOURS: u8 = 1 << 1;
const MODE_BINARY: u8 = 1 << 2;
const AFTERNOON: u8 = 1 << 7;

/// An update takes 2 ms at most, and a register read about a microsecond; a clock that is never still is not a clock.
const TRIES: usize = 10_000;

/// The clock's registers as read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Raw {
    seconds: u8,
    minutes: u8,
    hours: u8,
    day: u8,
    month: u8,
    year: u8,
    century: u8,
}

impl Raw {
    fn read(cmos: &mut impl Cmos) -> Self {
        Self {
            seconds: cmos.read(register::SECONDS),
            minutes: cmos.read(register::MINUTES),
            hours: cmos.read(register::HOURS),
            day: cmos.read(register::DAY),
            month: cmos.read(register::MONTH),
            year: cmos.read(register::YEAR),
            century: cmos.read(register::CENTURY),
        }
    }

    fn decode(self, status_b: u8) -> Option<UnixSeconds> {
        let number = |value: u8| {
            if status_b & MODE_BINARY != 0 { Some(value) } else { from_bcd(value) }
        };
        let hour = number(self.hours & !AFTERNOON)?;
        let hour = match (status_b & MODE_24_HOURS != 0, self.hours & AFTERNOON != 0) {
            (true, _) => number(self.hours)?,
            (false, _) if !(1..=12).contains(&hour) => return None,
            // 12 AM is midnight, 12 PM is noon.
            (false, afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
        };
        // Machines without a century register show something else there: only 19 and 20 are believed.
        let century = match number(self.century) {
            Some(century @ 19..=20) => u32::from(century),
            _ => 20,
        };
        let date = Date {
            year: century * 100 + u32::from(number(self.year)?),
            month: number(self.month)?,
            day: number(self.day)?,
        };
        let (minute, second) = (number(self.minutes)?, number(self.seconds)?);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let seconds_of_day = (u64::from(hour) * 60 + u64::from(minute)) * 60 + u64::from(second);
        Some(UnixSeconds(date.days_since_1970()? * 86_400 + seconds_of_day))
    }
}

fn from_bcd(value: u8) -> Option<u8> {
    let (tens, ones) = (value >> 4, value & 0xf);
    (tens < 10 && ones < 10).then_some(tens * 10 + ones)
}

/// Reads the clock: None if it is broken, stopped in an update, or shows no date.
pub fn read(cmos: &mut impl Cmos) -> Option<UnixSeconds> {
    let status_b = cmos.read(register::STATUS_B);
    let mut previous = None;
    for _ in 0..TRIES {
        if cmos.read(register::STATUS_A) & UPDATE_IN_PROGRESS != 0 {
            continue;
        }
        // An update may have begun after the check; two equal readings have none between them.
        let raw = Raw::read(cmos);
        if previous == Some(raw) {
            return raw.decode(status_b);
        }
        previous = Some(raw);
    }
    None
}

/// A day of the Gregorian calendar, from 1970 on.
struct Date {
    year: u32,
    month: u8,
    day: u8,
}

impl Date {
    fn days_since_1970(&self) -> Option<u64> {
        let year = self.year.checked_sub(1970)?;
        let lengths = [31, 28 + u8::from(is_leap(self.year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let month = usize::from(self.month.checked_sub(1)?);
        if self.day == 0 || self.day > *lengths.get(month)? {
            return None;
        }
        let leap_years = (1970..self.year).filter(|&year| is_leap(year)).count() as u64;
        let days_of_months: u64 = lengths[..month].iter().map(|&days| u64::from(days)).sum();
        Some(u64::from(year) * 365 + leap_years + days_of_months + u64::from(self.day) - 1)
    }
}

fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock with these registers, which shows an update for the first `busy` reads of status A.
    struct Clock {
        registers: [u8; 64],
        busy: usize,
        ticks_while_read: bool,
    }

    impl Cmos for Clock {
        fn read(&mut self, register: u8) -> u8 {
            if register == register::STATUS_A && self.busy > 0 {
                self.busy -= 1;
                return UPDATE_IN_PROGRESS;
            }
            if register == register::MINUTES && core::mem::take(&mut self.ticks_while_read) {
                self.registers[0] = 0x00;
                self.registers[2] = 0x31;
            }
            self.registers[usize::from(register)]
        }
    }

    fn clock(status_b: u8, [second, minute, hour, day, month, year, century]: [u8; 7]) -> Clock {
        let mut registers = [0; 64];
        registers[0] = second;
        registers[2] = minute;
        registers[4] = hour;
        registers[7] = day;
        registers[8] = month;
        registers[9] = year;
        registers[0x0b] = status_b;
        registers[0x32] = century;
        Clock { registers, busy: 0, ticks_while_read: false }
    }

    fn seconds(status_b: u8, fields: [u8; 7]) -> Option<u64> {
        read(&mut clock(status_b, fields)).map(|UnixSeconds(seconds)| seconds)
    }

    #[test]
    fn known_moments_in_bcd_and_binary() {
        assert_eq!(seconds(2, [0, 0, 0, 1, 1, 0x70, 0x19]), Some(0));
        assert_eq!(seconds(2, [0x40, 0x46, 0x01, 0x09, 0x09, 0x01, 0x20]), Some(1_000_000_000));
        assert_eq!(seconds(6, [8, 14, 3, 19, 1, 38, 20]), Some(1u64 << 31));
        assert_eq!(seconds(6, [0, 0, 0, 1, 3, 0, 20]), Some(951_868_800), "2000 was a leap year");
    }

    #[test]
    fn twelve_hour_clocks_know_noon_from_midnight() {
        let at = |hour| seconds(0, [0, 0, hour, 1, 1, 0x70, 0x19]);
        assert_eq!(at(0x12), Some(0));
        assert_eq!(at(0x12 | 0x80), Some(12 * 3600));
        assert_eq!(at(0x11 | 0x80), Some(23 * 3600));
        assert_eq!(at(0x01), Some(3600));
        assert_eq!(at(0x00), None);
    }

    #[test]
    fn a_missing_century_is_this_one() {
        assert_eq!(seconds(6, [0, 0, 0, 1, 1, 26, 0xff]), seconds(6, [0, 0, 0, 1, 1, 26, 20]));
    }

    #[test]
    fn a_tick_between_two_registers_is_read_again() {
        let mut torn = clock(2, [0x59, 0x30, 0, 1, 1, 0x70, 0x19]);
        torn.busy = 3;
        torn.ticks_while_read = true;
        assert_eq!(read(&mut torn), Some(UnixSeconds(31 * 60)));
    }

    #[test]
    fn nonsense_is_no_date_and_no_endless_loop() {
        assert_eq!(seconds(2, [0x60, 0, 0, 1, 1, 0x70, 0x19]), None);
        assert_eq!(seconds(2, [0, 0, 0, 0x30, 2, 0x24, 0x20]), None);
        assert_eq!(seconds(0xff, [0xff; 7]), None);
        let mut stuck = clock(2, [0; 7]);
        stuck.busy = usize::MAX;
        assert_eq!(read(&mut stuck), None);
    }

    #[test]
    fn every_day_of_two_centuries_follows_the_one_before() {
        let mut expected = 0;
        for year in 1970..2170 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if let Some(days) = (Date { year, month, day }).days_since_1970() {
                        assert_eq!(days, expected, "{year}-{month}-{day}");
                        expected += 1;
                    }
                }
            }
        }
        assert_eq!(expected, 200 * 365 + 49, "leap years 1972 to 2168, without 2100");
    }
}
