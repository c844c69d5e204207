//! Values with numbers that are used again.

/// A table of values; the number of one that was removed goes to the next.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    list: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self {
            list: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len() - self.free.len()
    }

    /// The number that the next value gets.
    pub(crate) fn next(&self) -> usize {
        self.free.last().copied().unwrap_or(self.list.len())
    }

    pub(crate) fn insert(&mut self, value: T) -> usize {
        match self.free.pop() {
            Some(index) => {
                self.list[index] = Some(value);
                index
            }
            None => {
                self.list.push(Some(value));
                self.list.len() - 1
            }
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.list.get(index)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.list.get_mut(index)?.as_mut()
    }

    pub(crate) fn remove(&mut self, index: usize) -> Option<T> {
        let value = self.list.get_mut(index)?.take()?;
        self.free.push(index);
        Some(value)
    }

    /// All values with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.list
            .iter()
            .enumerate()
            .filter_map(|(index, value)| Some((index, value.as_ref()?)))
    }
}
