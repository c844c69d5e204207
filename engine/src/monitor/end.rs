//! What happens when the process has ended, in this order: nothing of the container's output is
//! lost, nobody is told before it is true, nobody waits for what can be done later.

use std::time::Duration;

use plan::fault::Moment;

use super::Monitor;
use super::health;
use super::life::Life;
use crate::store::Hidden;
use crate::time::Time;
use crate::timing::Lane;

impl Monitor<'_> {
    /// The process ended: drains, records, releases. The pause until the next start where a policy
    /// asks for one; all clients are told the code then, and the host is as before.
    pub(super) fn end(&mut self, mut life: Life, code: i32) -> Option<Duration> {
        self.kill_at = None;
        self.checks = None;
        health::unwatched(&mut self.state.health);
        life.kill_rest();
        // Before anybody could take it for one that has ended, and open gates that stay.
        let _ = self
            .engine
            .close_gates(self.container.id(), &self.container.run);
        self.hub.drain();
        let now = Time::now();
        let ran = life.started_at.until(now);
        self.state.started_at = life.started_at;
        self.state.finished_at = now;
        self.state.exit_code = code;
        self.state.error.clear();
        self.state.oom_killed = life.out_of_memory();
        self.state.manually_stopped = self.by_hand;
        let again = self
            .rule
            .restarts(code, self.state.restart_count, self.by_hand);
        self.state.restarting = again;
        self.engine.note_ended(self.container, code);
        if again {
            self.state.restart_count += 1;
            let _ = self.step("exit-record", |monitor| {
                monitor.container.write_state(&monitor.state)
            });
            self.hub.exited(code);
            let name = self.container.current_name();
            self.engine.leave_receivers(self.container, &name);
            life.release();
            life.undo();
            return Some(self.pauses.after(ran));
        }
        let name = self.container.current_name();
        let removed = self.record_end();
        let _ = self.step("exit-release", |monitor| {
            monitor.engine.leave_receivers(monitor.container, &name);
            life.release();
            Ok(())
        });
        let _ = self.step("exit-answer", |monitor| {
            monitor.hub.exited(code);
            Ok(())
        });
        let _ = self.step("exit-undo", |_| {
            life.undo();
            Ok(())
        });
        self.trash = removed;
        None
    }

    /// Records the end: in the state, or with `--rm` by taking the container out of sight. Returns
    /// what is to be deleted later.
    pub(super) fn record_end(&mut self) -> Option<Hidden> {
        let container = self.container;
        if !container.record.host.auto_remove {
            let _ = self.step("exit-record", |monitor| {
                container.write_state(&monitor.state)
            });
            return None;
        }
        // anonymous volumes go with the container
        self.step("exit-remove", |monitor| {
            monitor.engine.hide(container, true)
        })
        .ok()
    }

    /// After the last end.
    pub(super) fn over(mut self, code: i32) -> i32 {
        if self.state.restarting {
            // Stopped by hand during the pause.
            self.state.restarting = false;
            self.state.manually_stopped = true;
            let _ = self.container.write_state(&self.state);
            self.hub.exited(code);
        }
        let trash = self.trash.take();
        self.leave(trash);
        0
    }

    /// Clears the run directory, gives up the claim, deletes, and stays for slow clients only.
    pub(super) fn leave(mut self, trash: Option<Hidden>) {
        self.listener = None;
        let claim = self.claim.take();
        let _ = self.step("exit-clear", |_| {
            claim.map_or(Ok(()), |claim| claim.clear())
        });
        if let Some(trash) = trash {
            let _ = self.step("exit-delete", |monitor| {
                monitor.engine.delete(monitor.container, trash)
            });
        }
        self.serve_last();
    }

    /// One act between its fault points; neither a fault nor an error keeps the next from its turn.
    pub(super) fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Self) -> crate::Result<T>,
    ) -> crate::Result<T> {
        let instruments = self.instruments;
        let _ = instruments.point(name, Moment::Before);
        let begin = instruments.now();
        let outcome = work(self);
        let took = instruments.now().saturating_sub(begin);
        instruments.note(Lane::Monitor, name, begin, took);
        let _ = instruments.point(name, Moment::After);
        outcome
    }
}
