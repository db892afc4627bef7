use super::{BUFFER, PipeContents, PipeDataEntry, Run, Tools, capacity};
use crate::file::InodeId;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::{fcntl_setpipe_size, pipe};
use std::os::fd::AsFd as _;

fn stream(bytes: &[u8]) -> Run {
    Run { bytes: bytes.to_vec(), packet: false }
}

fn packet(bytes: &[u8]) -> Run {
    Run { bytes: bytes.to_vec(), packet: true }
}

/// Streams and packets, in any order and of any length, are told apart,
/// put back, and still there to be read afterwards.
#[test]
fn a_pipe_is_read_without_being_consumed() {
    let mut tools = Tools::default();
    let page = [7; BUFFER];
    let full: Vec<Run> = (0..32).map(|_| stream(&[1; 3000])).collect();
    let cases: [&[Run]; 8] = [
        &[],
        &[stream(b"a")],
        &[packet(b"a")],
        &[packet(b"a"), packet(b"bc"), packet(b"d")],
        &[
            stream(b"ab"),
            packet(b"c"),
            stream(&page),
            stream(&[7; 9]),
            packet(&[9; BUFFER]),
            stream(b"z"),
        ],
        &[packet(b"a"), stream(b"b"), packet(b"c")],
        &[stream(b"a"), stream(b"bc"), stream(&[5; BUFFER]), stream(b"d"), stream(b"e")],
        &full,
    ];
    for runs in cases {
        let wanted = PipeContents { capacity: Some(1 << 17), runs: runs.to_vec() };
        let (read, write) = pipe().unwrap();
        wanted.fill(write.as_fd()).unwrap();
        for _ in 0..2 {
            assert_eq!(PipeContents::collect(read.as_fd(), &mut tools).unwrap(), wanted);
        }
        for Run { bytes, packet } in runs {
            let mut got = vec![0; bytes.len() + usize::from(*packet)];
            assert_eq!(rustix::io::read(&read, &mut got[..]).unwrap(), bytes.len());
            assert_eq!(&got[..bytes.len()], bytes);
        }
        drop(write);
        assert_eq!(rustix::io::read(&read, &mut [0]).unwrap(), 0);
    }
}

#[test]
fn a_full_pipe_of_any_size_is_restored() {
    let mut tools = Tools::default();
    for size in [4096, 65536, 1 << 20] {
        let (read, write) = pipe().unwrap();
        fcntl_setpipe_size(&write, size).unwrap();
        fcntl_setfl(&write, OFlags::NONBLOCK).unwrap();
        let mut total = 0;
        while let Ok(written) = rustix::io::write(&write, &vec![total as u8; 1000]) {
            total += written;
        }
        assert!(total <= size);
        let contents = PipeContents::collect(read.as_fd(), &mut tools).unwrap();
        let (other, _write) = pipe().unwrap();
        contents.fill(other.as_fd()).unwrap();
        assert_eq!(PipeContents::collect(other.as_fd(), &mut tools).unwrap(), contents);
        assert_eq!(capacity(other.as_fd()).unwrap() as usize, size);
    }
}

#[test]
fn contents_survive_the_image() {
    for runs in [vec![], vec![stream(b"abc")], vec![stream(b"ab"), packet(b"c")]] {
        let contents = PipeContents { capacity: Some(1 << 16), runs };
        let (entry, bytes) = contents.encode(InodeId::from_raw(1));
        assert_eq!(PipeContents::decode(&entry, bytes), Ok(contents));
    }
}

#[test]
fn contents_that_cannot_be_are_refused() {
    let contents =
        PipeContents { capacity: Some(1 << 16), runs: vec![stream(b"ab"), packet(b"c")] };
    let (entry, bytes) = contents.encode(InodeId::from_raw(1));
    let changes: [fn(&mut PipeDataEntry); 6] = [
        |entry| entry.size = Some(2),
        |entry| entry.size = Some(4096),
        |entry| entry.size = Some(0),
        |entry| entry.runs[0].bytes = 4,
        |entry| entry.runs[1].bytes = 0,
        |entry| entry.runs.truncate(1),
    ];
    for change in changes {
        let mut entry = entry.clone();
        change(&mut entry);
        assert!(PipeContents::decode(&entry, bytes.clone()).is_err(), "{entry:?}");
    }
}
