//! On the machine: programs that nobody wrote for it, in less RAM than they need.

use std::io::Write;
use std::process::{Command, Stdio};

use tests::harness::{Run, reduced_or_full};
use tests::programs::{Flavour, Package, Program};

fn build(program: Program) -> String {
    let path = program.build().unwrap_or_else(|error| panic!("{program}: {error}"));
    path.into_os_string().into_string().expect("a path in UTF-8")
}

/// What the same program with the same input says on the host.
fn on_the_host(program: &str, arguments: &[&str], stdin: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().expect("a pipe").write_all(stdin.as_bytes()).expect("its input");
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "{program} on the host: {}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// Fills a table, goes through it in another order and counts; strings and tables make the collector work as well.
const TABLE: &str = "
    local n = tonumber(arg[1])
    local t = {}
    for i = 1, n do t[i] = i * 2.5 end
    local most = collectgarbage('count')
    local at, sum = 1, 0
    for i = 1, n // 8 do at = (at * 5 + 1) % n; sum = sum + t[at + 1] - t[at + 1] % 1 end
    for i = 1, n do assert(t[i] == i * 2.5, i) end
    local words = {}
    for i = 1, n // 16 do words[#words + 1] = 'word ' .. i end
    for i = 1, n // 16 do assert(words[i] == 'word ' .. i) end
    most = math.max(most, collectgarbage('count'))
    words = nil; collectgarbage()
    print(string.format('OK lua n=%d sum=%.0f kib=%d', n, sum, most // 1))
";

#[test]
fn lua_holds_a_table_larger_than_the_ram() {
    let lua = build(Program::Debian(Package::Lua));
    // A float and its tag are 16 bytes, and a table grows to a power of two: 4 Mi of them are 64 MiB, twice that while it grows.
    let (elements, kib) = reduced_or_full((2_600_000_u64, 40 << 10), (5_000_000, 80 << 10));
    let elements = elements.to_string();
    let run = Run::new([lua.as_str(), "-", &elements]).stdin(TABLE.as_bytes());
    let run = run.options("--ram 24M --swap 512M").finish().expect_ok().expect_line("OK lua");
    assert_eq!(run.text(), on_the_host(&lua, &["-", &elements], TABLE), "{run}");
    assert!(run.value("OK lua", "kib") >= kib, "the table is as large as was meant\n{run}");
    assert!(run.count("vmstat/pswpin") > 0 && run.count("vmstat/pswpout") > 0, "{run}");
}

#[test]
fn m11_the_allocators_of_two_c_libraries_and_an_interpreter_work_under_pressure() {
    for flavour in [Flavour::Glibc, Flavour::Musl] {
        let malloc = build(Program::C("malloc", flavour));
        let run = Run::new([malloc.as_str()]).options("--ram 12M --swap 256M").finish().expect_ok();
        assert!(run.count("vmstat/pswpin") > 0, "{flavour:?}: nothing was paged in\n{run}");
    }
    let lua = build(Program::Debian(Package::Lua));
    let script =
        b"local t = {} for i = 1, 300000 do t[i] = {i} end for i = 1, #t do assert(t[i][1] == i) end print('OK lua')";
    Run::new([lua.as_str(), "-"]).stdin(script).options("--ram 16M").finish().expect_ok().expect_line("OK lua");
}

/// Where a static-PIE program says that its code is.
fn stands_at(option: &str) -> String {
    let program = build(Program::C("where", Flavour::GlibcPie));
    let run = Run::new([&program]).option("--append", option).options("--ram 24M").finish().expect_ok();
    let text = run.expect_line("OK where").text();
    text.lines().find_map(|line| line.strip_prefix("main ")).expect("an address").to_owned()
}

#[test]
fn m8_a_program_that_can_stand_anywhere_stands_somewhere_else_each_time() {
    let fixed = stands_at("aslr=off");
    assert_eq!(fixed, stands_at("aslr=off"), "without the option runs repeat");
    let (first, second) = (stands_at("aslr=on"), stands_at("aslr=on"));
    // One in 65536 pairs is equal by chance, and as many are where the fixed one is.
    assert!(first != second || stands_at("aslr=on") != first, "{first} each time");
    assert!(first != fixed || second != fixed, "always where it was");
}
