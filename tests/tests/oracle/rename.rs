//! The model's renames.

use rustix::io::Errno;

use super::model::{Look, Model, Object, Over, Res, is_below, parent};

impl Model {
    pub(crate) fn rename(&mut self, from: &str, to: &str, over: Over) -> Res<()> {
        self.look(from)?;
        let target = self.look(to)?;
        let (source, at, object) = self.found(from)?;
        if over == Over::Nothing && target.top.is_some() {
            return Err(Errno::EXIST);
        }
        if over == Over::Exchange && target.top.is_none() {
            return Err(Errno::NOENT);
        }
        if is_below(to, from) {
            return Err(Errno::INVAL);
        }
        if is_below(from, to) {
            let exchange = over == Over::Exchange;
            return Err(if exchange {
                Errno::INVAL
            } else {
                Errno::NOTEMPTY
            });
        }
        let same = matches!(object, Object::File(_) | Object::Link(_));
        if from == to || same && target.top == Some((at, object)) {
            return Ok(());
        }
        if over == Over::Exchange {
            return self.exchange(from, to);
        }
        let is_dir = matches!(object, Object::Dir(_));
        match target.top {
            Some((_, Object::Dir(_))) if !is_dir => return Err(Errno::ISDIR),
            Some((_, Object::Dir(_))) if !self.list(to).is_empty() => return Err(Errno::NOTEMPTY),
            Some((_, Object::File(_) | Object::Link(_))) if is_dir => return Err(Errno::NOTDIR),
            _ => {}
        }
        let at = self.rename_place(from, (&source, at, object), &target)?;
        self.ensure(parent(to), at)?;
        let opaque = is_dir && self.shows_below(to, at);
        let hides = self.shows_below(from, at);
        let branch = &mut self.branches[at];
        if opaque {
            branch.opaque.insert(from.to_owned());
        }
        branch.remove(to);
        branch.transfer(from, to);
        if hides {
            branch.whiteouts.insert(from.to_owned());
        }
        if target.whiteout == Some(at) {
            branch.whiteouts.remove(to);
        }
        if let Some((lower, Object::File(_) | Object::Link(_))) = target.top
            && lower > at
            && self.branches[lower].writable
        {
            self.branches[lower].tree.remove(to);
        }
        Ok(())
    }

    /// The branch in which a rename takes place; the source is there afterwards.
    fn rename_place(
        &mut self,
        from: &str,
        (source, at, object): (&Look, usize, Object),
        target: &Look,
    ) -> Res<usize> {
        let over = target.top.map_or(at, |(over, _)| over);
        let bound = at.min(target.bound).min(over);
        if matches!(object, Object::Dir(_)) {
            let here = source.dirs.len() == 1 && self.branches[at].writable && bound == at;
            return if here { Ok(at) } else { Err(Errno::XDEV) };
        }
        let place = match self.branches[bound].writable {
            true => bound,
            false => self.copy_place(parent(from), bound)?,
        };
        if place != at {
            self.copy(from, object, place)?;
        }
        Ok(place)
    }

    fn exchange(&mut self, one: &str, two: &str) -> Res<()> {
        let (first, second) = (self.found(one)?, self.found(two)?);
        if first.0.dirs.len() > 1 || second.0.dirs.len() > 1 {
            return Err(Errno::XDEV);
        }
        let is_dir = |object| matches!(object, Object::Dir(_));
        let mut at = first.1.min(second.1);
        if !self.branches[at].writable {
            if is_dir(first.2) || is_dir(second.2) {
                return Err(Errno::XDEV);
            }
            at = self.copy_place(parent(one), at)?;
        }
        for (path, (_, source, object)) in [(one, &first), (two, &second)] {
            if *source != at {
                if is_dir(*object) {
                    return Err(Errno::XDEV);
                }
                self.copy(path, *object, at)?;
            }
        }
        for (path, there, object) in [(one, two, first.2), (two, one, second.2)] {
            if is_dir(object) && self.shows_below(there, at) {
                self.branches[at].opaque.insert(path.to_owned());
            }
        }
        let branch = &mut self.branches[at];
        branch.transfer(one, "\u{1}");
        branch.transfer(two, one);
        branch.transfer("\u{1}", two);
        Ok(())
    }
}
