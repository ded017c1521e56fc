//! The examples for Python: their control codes, and, where there is a Python, what they send and how
//! they read an answer, against the driver's own layouts.

use std::{
    collections::BTreeMap, fmt::Write as _, fs, path::PathBuf, process::Command, time::Duration,
};

use parscan_client::{
    PortProgram,
    ioctl::parallel::{
        IOCTL_PARSCAN_CLAIM, IOCTL_PARSCAN_RUN, IOCTL_PARSCAN_WAIT_EDGE,
        port_programs::{
            ATOMIC, Edge, EdgeRing, EdgesHeader, GetRegister, Instruction, MOST_EDGES, RunEnd,
            RunResult, Time,
        },
    },
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The numbers that the examples give names to.
fn constants() -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for file in ["trigger.py", "edge.py"] {
        let text = fs::read_to_string(folder().join(file)).unwrap();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(" = ") else {
                continue;
            };
            let number = match value.strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => value.parse(),
            };
            if let (false, Ok(number)) = (name.starts_with(' '), number) {
                found.insert(name.to_owned(), number);
            }
        }
    }
    found
}

#[test]
fn codes_and_numbers_are_the_drivers() {
    let found = constants();
    for (name, value) in [
        ("IOCTL_PARSCAN_CLAIM", IOCTL_PARSCAN_CLAIM),
        ("IOCTL_PARSCAN_RUN", IOCTL_PARSCAN_RUN),
        ("IOCTL_PARSCAN_WAIT_EDGE", IOCTL_PARSCAN_WAIT_EDGE),
        ("ATOMIC", ATOMIC),
        ("DONE", RunEnd::Done as u32),
        ("MOST_EDGES", u32::try_from(MOST_EDGES).unwrap()),
    ] {
        assert_eq!(found.get(name), Some(&value), "{name}");
    }
}

/// What the examples send and read, said by Python itself.
const SCRIPT: &str = r"
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import edge, trigger
print((trigger.data(42) + trigger.delay_us(50000) + trigger.get(1)).hex())
print(trigger.RESULT.size, edge.HEADER.size, edge.EDGE.size)
edges, lost = edge.parse_edges(bytes.fromhex(sys.argv[2]))
print(lost, [(round(seconds * 10000000), status) for seconds, status in edges])
";

#[test]
fn python_sends_and_reads_what_the_driver_does() {
    let mut ring = EdgeRing::EMPTY;
    for stamp in 1..=66 {
        ring.push(Edge {
            stamp,
            status: 0xD8,
        });
    }
    let mut answer = [0; EdgesHeader::SIZE + 2 * Edge::SIZE];
    assert_eq!(ring.answer(&mut answer, 10_000_000), answer.len());
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT]).arg(folder()).arg(hex(&answer));
    let Ok(done) = python.output() else {
        println!("no python3 here: the layouts were not compared");
        return;
    };
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let time = Time::from_ns(50_000_000).unwrap();
    let code = [
        Instruction::Data(42),
        Instruction::Delay(time),
        Instruction::Get(GetRegister::Status),
    ];
    let expected = format!(
        "{}\n{} {} {}\n2 [(3, 216), (4, 216)]\n",
        hex(code.map(Instruction::encode).as_flattened()),
        RunResult::SIZE,
        EdgesHeader::SIZE,
        Edge::SIZE
    );
    assert_eq!(String::from_utf8_lossy(&done.stdout), expected);
    // The trigger of both is one that the driver takes.
    let trigger = PortProgram::new()
        .data(1)
        .delay(Duration::from_micros(10))
        .data(0)
        .atomic();
    assert_eq!(trigger.check(), Ok(0));
}
