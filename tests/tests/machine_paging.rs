//! On the machine: programs that need more memory than it has get every byte back, whatever their pattern.
//!
//! Every day with 24 MiB of RAM, in a soak with the sizes that the project is measured at.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use tests::harness::{Finished, Run, bare, reduced_or_full, seed, soak};
use tests::programs::Program;

/// The project's own workload and, if the environment names one, another program that takes the same arguments.
fn pressures() -> Vec<PathBuf> {
    let own = Program::Workload("pressure").build().unwrap_or_else(|error| panic!("{error}"));
    std::iter::once(own).chain(std::env::var_os("EBB_C_PRESSURE").map(PathBuf::from)).collect()
}

/// Runs one kind of pressure with twice as much memory as there is RAM.
fn twice_the_ram(kind: &str, everyday: &str, soak: &str) -> Vec<Finished> {
    let (options, mib) = reduced_or_full(("--ram 24M --swap 384M", 48), ("--ram 64M --swap 1G", 128));
    let arguments = format!("{kind} mib={mib} seed={} {}", seed(), reduced_or_full(everyday, soak));
    let words = |program: &PathBuf| {
        let program = program.to_str().expect("a path in UTF-8");
        format!("{program} {arguments}").split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |program| Run::new(words(program)).options(options).finish().expect_ok();
    pressures().iter().map(run).collect()
}

fn expect_swapping(runs: &[Finished]) {
    for run in runs {
        let (ins, outs) = (run.count("vmstat/pswpin"), run.count("vmstat/pswpout"));
        assert!(ins > 0 && outs > 0, "{ins} pages in, {outs} out\n{run}");
    }
}

#[test]
fn g5_a_program_uses_three_times_the_ram() {
    // In a soak exactly what `just run` does.
    let run = reduced_or_full(Run::line("pressure seq-write mib=72").options("--ram 24M"), Run::line(""));
    let run = run.finish().expect_ok().expect_line("OK seq-write");
    expect_swapping(std::slice::from_ref(&run));
    let (ram, swap) = reduced_or_full((24, 256), (64, 256));
    assert_eq!((run.count("ram_bytes"), run.count("swap_bytes")), (ram << 20, swap << 20));
    for number in ["boot_ms", "wall_s", "fault_latency_us/minor/p50", "fault_latency_us/major/p99", "disk/swap/flushes"]
    {
        run.number(number);
    }
    assert!(run.count("vmstat/pgmajfault") > 0 && run.count("fault_latency_us/major/count") > 0, "{run}");
    assert!(run.count("vmstat/pgscan") >= run.count("vmstat/pgsteal"), "{run}");
}

/// The swap disk's counts, the kernel's and QEMU's: to the last byte and to the last request, the header's included.
#[test]
fn the_kernel_and_qemu_count_the_same_bytes_and_requests_of_swap() {
    // Merged or not: QEMU counts each request of a merged one by itself. Its virtio-blk does not count discards (10.0).
    for (merging, compress) in [("on", "off"), ("off", "off"), ("off", "on")] {
        let run = Run::line("pressure random mib=48 ops=4096").options("--ram 24M");
        let run = run.option("--append", format!("swap.compress={compress}"));
        let run = run.qemu_arguments(&format!("-global virtio-blk-device.request-merging={merging}")).finish();
        let run = run.expect_ok();
        let qemu = |name: &str| run.count(&format!("disk/qemu/swap/{name}"));
        for (kernel, name) in [
            ("read_bytes", "rd_bytes"),
            ("write_bytes", "wr_bytes"),
            ("reads", "rd_operations"),
            ("writes", "wr_operations"),
            ("flushes", "flush_operations"),
        ] {
            assert_eq!(run.count(&format!("disk/swap/{kernel}")), qemu(name), "merging {merging}: {name}\n{run}");
        }
        let merged = qemu("rd_merged") + qemu("wr_merged");
        println!("merging {merging}: {merged} of {} requests", qemu("rd_operations") + qemu("wr_operations"));
        assert!(merging == "on" || merged == 0, "{merged} merged\n{run}");
        let header = 4096;
        assert_eq!(run.count("disk/swap/read_bytes"), run.count("vmstat/pswpin") * 4096 + header, "{run}");
        assert_eq!(run.count("disk/swap/write_bytes"), run.count("vmstat/pswpout") * 4096, "{run}");
    }
}

/// Contents are checked by the program. Of each page as much is noise as the program is told; what is all noise does not get smaller.
#[test]
fn pages_come_back_from_the_compressed_tier_and_go_on_to_the_disk_in_clusters() {
    let run = |fill: u32, encrypt: &str| {
        let line = format!("pressure zipf mib=48 ops=20000 fill={fill} seed={}", seed());
        let run = Run::line(&line).options("--ram 24M").option("--append", "swap.compress=on");
        run.option("--append", format!("swap.encrypt={encrypt}")).finish().expect_ok()
    };
    let a_third = run(33, "on");
    let count = |name: &str| a_third.count(&format!("vmstat/{name}"));
    let (bytes, pages) = (count("ebb_swap_tier_out_bytes"), count("ebb_swap_tier_out"));
    assert!((pages * 4096 / 4..pages * 4096 / 2).contains(&bytes), "{bytes} bytes for {pages} pages\n{a_third}");
    assert!(count("ebb_swap_tier_in") > 100 && count("ebb_swap_tier_written") > 1000, "{a_third}");
    let writes = a_third.count("disk/swap/writes");
    assert!(count("pswpout") / writes >= 16, "{} pages in {writes} writes\n{a_third}", count("pswpout"));
    let noise = run(100, "off");
    // The program has a few pages besides that are not noise.
    assert!(noise.count("vmstat/ebb_swap_tier_in") < 100, "{noise}");
    assert!(noise.count("vmstat/ebb_swap_tier_refused") > 1000, "{noise}");
}

#[test]
fn slots_are_given_back_to_the_disk_in_batches_when_the_program_ends() {
    let scratch = tempfile::tempdir().expect("a directory");
    let image = scratch.path().join("swap.img");
    disk_image::builder::create_swap_image(&image, disk_image::Pages(96 * 256)).expect("a swap image");
    let run = Run::line("pressure seq-write mib=48").options("--ram 24M").option("--swap", &image).finish().expect_ok();
    let (discards, written) = (run.count("disk/swap/discards"), run.count("vmstat/pswpout"));
    assert!(discards > 0 && discards < written / 16, "{discards} discards of {written} pages\n{run}");
    let used = std::fs::metadata(&image).expect("the image").blocks() * 512;
    assert!(used < (1 << 20), "{used} bytes of the image are still in use\n{run}");
}

#[test]
fn pages_in_order_survive() {
    expect_swapping(&twice_the_ram("seq-write", "passes=2", "passes=4"));
}

/// N13: a program that goes through twice the RAM in order waits for the disk at one page of eight at most.
#[test]
fn n13_neighbours_come_along() {
    let (options, mib) = reduced_or_full(("--ram 24M --swap 128M", 48), ("--ram 64M --swap 1G", 128));
    let run = Run::line(&format!("pressure seq-write mib={mib} passes=2")).options(options).finish().expect_ok();
    // Two passes read every page back once, and the last look once more.
    let (major, read) = (run.count("vmstat/pgmajfault"), run.count("vmstat/pswpin"));
    println!("{major} major faults for {read} pages read, {} of them ahead", run.count("vmstat/swap_ra"));
    assert!(read > mib * 256, "{read} pages read\n{run}");
    assert!(major <= read / 8, "{major} major faults for {read} pages\n{run}");
    let (ahead, used) = (run.count("vmstat/swap_ra"), run.count("vmstat/swap_ra_hit"));
    assert!(used * 10 >= ahead * 9, "{used} of {ahead} pages that came along were used\n{run}");
}

/// Of the pages that are read back, one in sixteen is told to who knows Belady's minimum, and part of them had to be read. References are
/// independent, so that half of the misses are for want of foresight, more or less.
fn expect_judged(run: &Finished) {
    let of = |name: &str| run.count(&format!("belady/{name}")) as f64;
    let (read, told, minimum) =
        (run.count("vmstat/pswpin") as f64, of("reads") + of("reads_not_judged"), of("minimum"));
    // Four standard deviations of the sample.
    let chance = 4.0 * (read * of("sampled_one_in")).sqrt();
    println!("{told} of {read} pages that were read, {minimum} of {} had to be", of("reads"));
    assert!((told - read).abs() <= 0.03 * read + chance, "{told} of {read} pages\n{run}");
    assert!((0.15..0.75).contains(&(minimum / of("reads"))), "{minimum} of {}\n{run}", of("reads"));
    let guest = ["reads", "minimum"].map(|name| run.count(&format!("vmstat/ebb_belady_{name}")) as f64);
    assert_eq!(guest, [of("reads"), minimum], "{run}");
}

#[test]
fn u5_pages_at_random_survive_and_what_had_to_be_read_is_told() {
    let runs = twice_the_ram("random", "ops=8192", "ops=65536");
    expect_swapping(&runs);
    runs.iter().for_each(expect_judged);
}

/// N13: a run phase that jumps about reads the pages it asks for; writing all of them and looking at all of them go in order.
#[test]
fn n13_jumps_bring_no_others() {
    let (options, arguments) =
        reduced_or_full(("--ram 24M --swap 128M", "mib=48 ops=8192"), ("--ram 64M --swap 1G", "mib=128 ops=65536"));
    let run = Run::line(&format!("pressure random {arguments}")).options(options).finish().expect_ok();
    let phase = "RESULT kind=random phase=run";
    let (major, read) = (run.value(phase, "pgmajfault"), run.value(phase, "pswpin"));
    println!("{major} major faults for {read} pages read");
    assert!(read <= major + major / 25, "{read} pages read for {major} major faults\n{run}");
}

#[test]
fn pages_by_a_zipf_distribution_survive() {
    expect_swapping(&twice_the_ram("zipf", "ops=20000", "ops=131072"));
}

#[test]
fn hot_and_cold_pages_survive() {
    expect_swapping(&twice_the_ram("hot-cold", "ops=20000", "ops=131072"));
}

/// What is none of the four patterns: 1.7 times the RAM, with real data structures and with two processes.
#[test]
fn mixes_of_patterns_end_well() {
    let (options, mib) = reduced_or_full(("--ram 24M --swap 128M", 40), ("--ram 64M --swap 1G", 96));
    for (kind, everyday) in [
        ("phases", "ops=4000 passes=1"),
        ("pair", "ops=200000 passes=2"),
        ("shifting", "ops=20000"),
        ("btree", "ops=4000"),
        ("transpose", ""),
        ("mark-sweep", "ops=200"),
    ] {
        let line = format!("mixes {kind} mib={mib} seed={} {}", seed(), reduced_or_full(everyday, ""));
        let run = Run::line(&line).options(options).finish().expect_ok().expect_line(&format!("OK {kind}"));
        println!("{line}: {} ms", run.value(&format!("RESULT kind={kind} phase=run"), "ns") / 1_000_000);
        expect_swapping(std::slice::from_ref(&run));
    }
}

#[test]
fn fresh_pages_are_zero_however_often_they_are_mapped() {
    twice_the_ram("fault", "mib=8 passes=8", "mib=32 passes=16");
}

#[test]
fn null_system_calls_need_no_memory() {
    twice_the_ram("null-syscall", "ops=100000", "ops=1000000");
}

#[test]
fn a_reservation_a_thousand_times_the_ram_costs_only_what_is_touched() {
    twice_the_ram("lazy", "gib=24", "gib=64");
}

/// A page-table bomb: 32768 tables are 128 MiB. (The index needs 40 bytes for each of these pages: that is what ends it, at 512 GiB
/// or so.)
#[test]
fn e5_a_page_read_in_every_2_mib_of_64_gib_is_no_end_of_memory() {
    let line = "pressure sparse-read gib=64 passes=2";
    let run = Run::line(line).options("--ram 24M").finish().expect_ok().expect_line("OK sparse-read");
    assert!(run.count("vmstat/ebb_page_tables_dropped") > 50_000, "{run}");
}

#[test]
fn pages_that_are_mostly_read_and_pages_that_do_not_compress_survive() {
    expect_swapping(&twice_the_ram("random", "ops=6000 wr=20 fill=100", "ops=65536 wr=20 fill=100"));
}

#[test]
fn evicting_at_every_chance_changes_nothing_but_time() {
    let run = Run::line("hello").options("--ram 24M --append mm.torture").finish().expect_ok().expect_line("OK hello");
    let (reads, faults) = (run.count("disk/swap/reads"), run.count("vmstat/pgmajfault"));
    assert!(reads > 100 && faults > 100, "{reads} reads, {faults} major faults\n{run}");
    if soak() {
        Run::line("threads").options("--ram 24M --append mm.torture").finish().expect_ok().expect_line("OK threads");
        let line = format!("pressure random mib=8 ops=5000 seed={}", seed());
        Run::line(&line).options("--ram 24M --append mm.torture").finish().expect_ok();
    }
}

#[test]
fn without_any_option_it_swaps_and_powers_off_by_acpi() {
    let scratch = tempfile::tempdir().expect("a directory");
    let disk = scratch.path().join("swap.img");
    let pages = disk_image::Pages(reduced_or_full(96, 1024) * 256);
    let (ram, sizes) = reduced_or_full(("24M", "mib=48 ops=4096"), ("64M", "mib=128 ops=65536"));
    let line = format!("-- pressure random {sizes} seed={}", seed());
    for program in pressures() {
        let _ = std::fs::remove_file(&disk);
        disk_image::builder::create_swap_image(&disk, pages).expect("a swap image");
        let output = bare::run(ram, Some(&program), &line, Some(&disk));
        assert_eq!(output.status, 0, "{line}: {output:?}");
        let is_result = |line: &str| ["RESULT ", "OK ", "LATENCY "].iter().any(|word| line.starts_with(word));
        let foreign: Vec<_> = output.console.lines().filter(|line| !is_result(line)).collect();
        assert!(foreign.is_empty(), "{line}: lines that are not the program's: {foreign:?}");
        assert!(output.console.contains("phase=verify"), "{line}: {output:?}");
    }
}
