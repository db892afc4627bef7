//! The images a real CRIU 4.2 wrote (x86_64, Linux 6.18): a Python process with two threads and a
//! child, which hold a pipe and a unix socket pair with bytes in them, an epoll, an eventfd and a
//! listening TCP socket. The pages are left out.

use std::path::{Path, PathBuf};

use dormouse_image::error::Result;
use dormouse_image::framing::{Reader, write_header, write_message};
use dormouse_image::name::ImageName;
use dormouse_image::proto::core::{CoreEntry, TaskKobjIdsEntry};
use dormouse_image::proto::files::pipe::PipeDataEntry;
use dormouse_image::proto::files::socket::SkPacketEntry;
use dormouse_image::proto::files::{FdinfoEntry, FileEntry};
use dormouse_image::proto::fs::FsEntry;
use dormouse_image::proto::inventory::InventoryEntry;
use dormouse_image::proto::mm::MmEntry;
use dormouse_image::proto::namespace::time::TimensEntry;
use dormouse_image::proto::pagemap::{PagemapEntry, PagemapHead};
use dormouse_image::proto::pstree::PstreeEntry;
use dormouse_image::proto::seccomp::SeccompEntry;
use dormouse_image::proto::stats::StatsEntry;
use prost::Message;

/// Where they are.
pub(crate) fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sleeper")
}

/// Name and contents of each.
pub(crate) fn images() -> Vec<(ImageName, Vec<u8>)> {
    let mut images: Vec<_> = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = ImageName::parse(entry.file_name().as_encoded_bytes()).unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    images.sort();
    assert!(!images.is_empty());
    images
}

/// Decodes an image and encodes it again.
pub(crate) fn recode(name: ImageName, bytes: &[u8]) -> Result<Vec<u8>> {
    let magic = name.kind().magic;
    let path = PathBuf::from(name.to_string());
    let mut copy = Recoder { reader: Reader::from_bytes(bytes, magic, &path)?, out: Vec::new() };
    write_header(&mut copy.out, magic).unwrap();
    match name {
        ImageName::Inventory => copy.one::<InventoryEntry>()?,
        ImageName::PsTree => copy.all::<PstreeEntry>(|_| 0)?,
        ImageName::Files => copy.all::<FileEntry>(|_| 0)?,
        ImageName::SkQueues => copy.all::<SkPacketEntry>(|m| m.length)?,
        ImageName::PipesData => copy.all::<PipeDataEntry>(|m| m.bytes)?,
        ImageName::Seccomp => copy.one::<SeccompEntry>()?,
        ImageName::StatsDump => copy.one::<StatsEntry>()?,
        ImageName::Core(_) => copy.one::<CoreEntry>()?,
        ImageName::Ids(_) => copy.one::<TaskKobjIdsEntry>()?,
        ImageName::Mm(_) => copy.one::<MmEntry>()?,
        ImageName::Fs(_) => copy.one::<FsEntry>()?,
        ImageName::Fdinfo(_) => copy.all::<FdinfoEntry>(|_| 0)?,
        ImageName::TimeNs(_) => copy.one::<TimensEntry>()?,
        ImageName::Pagemap(_) => {
            copy.one::<PagemapHead>()?;
            copy.all::<PagemapEntry>(|_| 0)?;
        }
        other => panic!("no golden image should be called {other}"),
    }
    copy.reader.end()?;
    Ok(copy.out)
}

struct Recoder<'a> {
    reader: Reader<std::io::Cursor<&'a [u8]>>,
    out: Vec<u8>,
}

impl Recoder<'_> {
    fn one<M: Message + Default + PartialEq>(&mut self) -> Result<()> {
        let message: M = self.reader.need_message()?;
        self.put(&message);
        Ok(())
    }

    fn all<M: Message + Default + PartialEq>(&mut self, payload: fn(&M) -> u32) -> Result<()> {
        while let Some(message) = self.reader.next_message::<M>()? {
            self.put(&message);
            let payload = self.reader.payload(payload(&message).into())?;
            self.out.extend(payload);
        }
        Ok(())
    }

    fn put<M: Message + Default + PartialEq>(&mut self, message: &M) {
        write_message(&mut self.out, message, &mut Vec::new()).unwrap();
        // What we write must read back, whatever was read.
        assert!(M::decode(&*message.encode_to_vec()).unwrap() == *message);
    }
}
