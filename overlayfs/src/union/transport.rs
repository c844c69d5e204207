//! How requests come from the kernel and replies go back: by the device, or by rings of io_uring.
//!
//! Both end in [`server::answer`]; nothing else knows of either.
//!
//! With rings the kernel hands a request to a queue of the processor that the caller runs on, and
//! threads that stay on that processor serve it: a request and its reply are two switches between
//! processes and no wake-up of another processor. What the kernel still sends through the device
//! (the end of nodes, interrupts) is read by one thread more.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use sys::fuse::{Device, Identity, Ring, possible_processors};

use crate::union::options::Transport;
use crate::union::server::{self, MAX_WRITE};
use crate::union::tree::Union;
use crate::union::wire::{Args, OUT_HEADER};
use crate::union::{Res, UnionError};

/// Room for the largest request, with its header and arguments.
pub(crate) const BUFFER: usize = MAX_WRITE as usize + 8192;

/// Threads that a queue begins with. Whenever none of them waits for requests there is one more: a
/// long copy, a slow disk or a file that is being copied hold up only those that wait for them.
const FIRST: usize = 2;

/// Threads that there may be in all, and at least of each queue.
const MOST: usize = 64;
const MOST_OF_QUEUE: usize = 8;

/// How long what only the device tells is left to gather while rings serve: mostly the ends of nodes,
/// one for each file that was removed.
const GATHER: Duration = Duration::from_millis(2);

/// The threads that serve a mount.
#[derive(Debug)]
pub(crate) struct Serving {
    alive: Arc<AtomicUsize>,
}

/// The threads of one queue.
#[derive(Debug)]
struct Group {
    union: Arc<Union>,
    alive: Arc<AtomicUsize>,
    queue: Queue,
    threads: AtomicUsize,
    most: usize,
    /// Those that wait for a request.
    idle: AtomicUsize,
}

/// Where the requests of a group come from.
#[derive(Debug)]
enum Queue {
    /// The device.
    Device,
    /// The device, while rings serve.
    Rest,
    /// Slots in the kernel's queues, which a processor's threads have.
    Rings(Plan),
}

/// Threads of rings: the processor they stay on and the queues in which each has a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    processor: usize,
    queues: Vec<u16>,
}

/// The groups for `possible` queues where the server may run on `usable` processors.
///
/// Queues of processors that are not there, or not for us, must have slots all the same: before all
/// have one, the kernel uses none. They are spread over the others.
fn plan(possible: u16, usable: &[usize]) -> Vec<Plan> {
    let is_own = |queue: &u16| usable.contains(&usize::from(*queue));
    let foreign: Vec<u16> = (0..possible).filter(|queue| !is_own(queue)).collect();
    let of = |(at, &processor): (usize, &usize)| {
        let own = u16::try_from(processor).ok();
        let own = own.filter(|queue| *queue < possible).into_iter();
        let more = foreign.iter().skip(at).step_by(usable.len()).copied();
        let queues = own.chain(more).collect();
        Plan { processor, queues }
    };
    let all = usable.iter().enumerate().map(of);
    all.filter(|plan| !plan.queues.is_empty()).collect()
}

impl Serving {
    /// Starts the threads; the mount has been agreed on with the kernel.
    pub(crate) fn start(union: &Arc<Union>) -> Result<Self, UnionError> {
        let serving = Self {
            alive: Arc::default(),
        };
        union.may_watch();
        if union.has_rings.load(Ordering::Relaxed) {
            match serving.rings(union) {
                Ok(()) => {
                    serving.group(union, Queue::Rest, 1).begin(1, None)?;
                    return Ok(serving);
                }
                // Unmounted before all rings were there.
                Err(error) if error.errno() == libc::ENOTCONN => return Ok(serving),
                Err(error) if union.transport == Transport::Ring => return Err(error),
                // The kernel sends everything through the device then.
                Err(_) => union.has_rings.store(false, Ordering::Relaxed),
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let group = serving.group(union, Queue::Device, MOST);
        group.begin(cores.clamp(FIRST, MOST / 2), None)?;
        Ok(serving)
    }

    /// Whether a thread still serves.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire) > 0
    }

    fn rings(&self, union: &Arc<Union>) -> Result<(), UnionError> {
        let usable: Vec<usize> = sched_getaffinity(None)
            .map(|set| (0..CpuSet::MAX_CPU).filter(|at| set.is_set(*at)).collect())
            .unwrap_or_else(|_| vec![0]);
        let most = (MOST / usable.len().max(1)).max(MOST_OF_QUEUE);
        let (ready, readied) = channel();
        for plan in plan(possible_processors()?, &usable) {
            let group = self.group(union, Queue::Rings(plan), most);
            group.begin(FIRST, Some(&ready))?;
        }
        drop(ready);
        // All are heard out: those that have slots serve on, whatever became of the others.
        let answers: Vec<Result<(), sys::SysError>> = readied.iter().collect();
        answers.into_iter().collect::<Result<(), _>>()?;
        Ok(())
    }

    fn group(&self, union: &Arc<Union>, queue: Queue, most: usize) -> Arc<Group> {
        Arc::new(Group {
            union: Arc::clone(union),
            alive: Arc::clone(&self.alive),
            queue,
            threads: AtomicUsize::new(0),
            most,
            idle: AtomicUsize::new(0),
        })
    }
}

/// Where a thread says whether it can serve.
type Ready = Sender<Result<(), sys::SysError>>;

impl Group {
    fn begin(self: &Arc<Self>, count: usize, ready: Option<&Ready>) -> Result<(), UnionError> {
        for _ in 0..count {
            self.thread(ready.cloned())?;
        }
        Ok(())
    }

    /// Starts one more thread, unless there are enough.
    fn thread(self: &Arc<Self>, ready: Option<Ready>) -> sys::error::Result<()> {
        let more = |count: usize| (count < self.most).then_some(count + 1);
        let order = Ordering::Relaxed;
        let Ok(number) = self.threads.fetch_update(order, order, more) else {
            return Ok(());
        };
        self.idle.fetch_add(1, Ordering::Relaxed);
        self.alive.fetch_add(1, Ordering::AcqRel);
        let name = match &self.queue {
            Queue::Device => format!("union-{number}"),
            Queue::Rest => "union-rest".to_owned(),
            Queue::Rings(plan) => format!("union-{}-{number}", plan.processor),
        };
        let group = Arc::clone(self);
        let run = move || {
            match &group.queue {
                Queue::Device => {
                    group.serve_device(number > 0 && group.union.lasting.is_none(), None)
                }
                Queue::Rest => group.serve_device(false, Some(GATHER)),
                Queue::Rings(plan) => group.serve_rings(plan, ready),
            }
            if group.alive.fetch_sub(1, Ordering::AcqRel) == 1 {
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::USR1,
                );
            }
        };
        let started = std::thread::Builder::new().name(name).spawn(run);
        if let Err(error) = started {
            self.threads.fetch_sub(1, Ordering::Relaxed);
            self.idle.fetch_sub(1, Ordering::Relaxed);
            self.alive.fetch_sub(1, Ordering::AcqRel);
            return Err(sys::SysError::from_io("clone(thread)", error));
        }
        Ok(())
    }

    /// A request has come: somebody must wait for the next.
    fn taken(self: &Arc<Self>) {
        self.union.counters.requests.fetch_add(1, Ordering::Relaxed);
        if self.idle.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Without it, requests wait for this one's end.
            let _ = self.thread(None);
        }
    }

    fn replied(&self) {
        self.idle.fetch_add(1, Ordering::Relaxed);
    }

    /// Serves the device until the mount is gone, by a descriptor of its own if so wanted.
    fn serve_device(self: &Arc<Self>, own: bool, gather: Option<Duration>) {
        let union = &*self.union;
        let Ok(identity) = Identity::of_this_thread() else {
            return;
        };
        let queue = own.then(|| union.device.another_queue().ok()).flatten();
        let device = queue.as_ref().unwrap_or(&union.device);
        // The kernel answers by itself what it hands to a dying server, if it has to get the memory
        // for it first: where another takes over, all of it is there from the start.
        let mut buffer = vec![u8::from(union.lasting.is_some()); BUFFER];
        let mut out = Vec::with_capacity(BUFFER);
        while let Some(length) = next_request(device, &mut buffer) {
            self.taken();
            if let Ok((header, args)) = Args::split(&buffer[..length]) {
                out.clear();
                // Held until the reply is out: who changes the branches waits for it.
                let mut members = union.members();
                let answer = server::answer(union, &mut members, &identity, header, args, &mut out);
                if let Some(result) = answer {
                    reply(device, header.unique, result, &out);
                }
            }
            self.replied();
            if let Some(gather) = gather {
                std::thread::sleep(gather);
            }
        }
    }

    /// Serves slots of the kernel's queues until the mount is gone; says first whether it has them.
    fn serve_rings(self: &Arc<Self>, plan: &Plan, ready: Option<Ready>) {
        let union = &*self.union;
        let mut own = CpuSet::new();
        own.set(plan.processor);
        // Where that is forbidden, the queue is served from another processor.
        let _ = sched_setaffinity(None, &own);
        let made = Identity::of_this_thread().and_then(|identity| {
            let ring = Ring::new(&union.device, plan.queues.clone(), MAX_WRITE as usize)?;
            Ok((identity, ring))
        });
        let (made, answer) = match made {
            Ok(made) => (Some(made), Ok(())),
            Err(error) => (None, Err(error)),
        };
        if let Some(ready) = ready {
            let _ = ready.send(answer);
        }
        let Some((identity, mut ring)) = made else {
            self.idle.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let mut out = Vec::with_capacity(BUFFER);
        while let Some(turn) = ring.wait() {
            self.taken();
            union.counters.ring_requests.fetch_add(1, Ordering::Relaxed);
            let (header, first, others) = turn.request();
            out.clear();
            // Held until the reply is out, as above.
            let mut members = union.members();
            let result = Args::of_parts(header, first, others).and_then(|(header, args)| {
                let answer = server::answer(union, &mut members, &identity, header, args, &mut out);
                answer.unwrap_or(Ok(()))
            });
            match result {
                Ok(()) => turn.reply(0, &out),
                Err(errno) => turn.reply(errno.raw_os_error(), &[]),
            }
            self.replied();
        }
    }
}

/// Reads one request whole; none when the mount is gone.
pub(crate) fn next_request(device: &Device, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match device.read(buffer) {
            Ok(0) | Err(Errno::NODEV) => return None,
            Ok(length) => return Some(length),
            Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
            Err(_) => return None,
        }
    }
}

/// Sends a reply: an error, or what `out` holds.
pub(crate) fn reply(device: &Device, unique: u64, result: Res<()>, out: &[u8]) {
    let (error, body) = match result {
        Ok(()) => (0, out),
        Err(errno) => (-errno.raw_os_error(), &[][..]),
    };
    let length = u32::try_from(OUT_HEADER + body.len()).unwrap_or(0);
    let mut header = [0; OUT_HEADER];
    header[..4].copy_from_slice(&length.to_ne_bytes());
    header[4..8].copy_from_slice(&error.to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    // Refused when the caller was interrupted meanwhile: nobody waits for it then.
    let _ = device.write(&[IoSlice::new(&header), IoSlice::new(body)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_slots() {
        for (possible, usable) in [
            (1, vec![0]),
            (2, vec![0, 1]),
            (4, vec![1]),
            (64, vec![0, 3, 63]),
            (2, vec![0, 1, 2]),
        ] {
            let groups = plan(possible, &usable);
            for queue in 0..possible {
                let has_it = |one: &&Plan| one.queues.contains(&queue);
                let serving: Vec<_> = groups.iter().filter(has_it).collect();
                assert_eq!(serving.len(), 1, "{possible} {usable:?} {queue}");
                let stays = usize::from(queue);
                if usable.contains(&stays) {
                    assert!(serving.iter().all(|one| one.processor == stays));
                }
            }
            assert!(groups.iter().all(|one| usable.contains(&one.processor)));
        }
    }
}
