//! Locks for data that interrupt handlers and tasks share.
//!
//! Owns: [`IrqLock`], the raw lock that mm, maitake-sync and the frame allocator take as a parameter, and
//! [`Mutex`], a value behind one. Kernel code runs with interrupts off (design D3), so the lock has nothing to mask;
//! it is there for the CPUs to come, and to catch recursion: with one CPU a lock found taken would never be released.
#![expect(unsafe_code, reason = "a lock is where exclusive access is made")]

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use mutex_traits::{ConstInit, RawMutex};

/// A value that is written once.
pub use spin::Once;

/// A raw lock.
pub struct IrqLock {
    taken: AtomicBool,
}

impl ConstInit for IrqLock {
    // Every use makes a lock of its own: that is what the trait is for.
    #[allow(clippy::declare_interior_mutable_const)]
    const INIT: Self = Self { taken: AtomicBool::new(false) };
}

// SAFETY: `lock` and `try_lock` return (with success) only after changing `taken` from false to true, which no two
// callers can do without an `unlock` between them; acquire and release order the protected accesses.
unsafe impl RawMutex for IrqLock {
    /// Not `Send`: a guard must not be held across an await.
    type GuardMarker = PhantomData<*mut ()>;

    #[inline]
    #[track_caller]
    fn lock(&self) {
        assert!(self.try_lock(), "a lock was taken twice on one CPU");
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.taken.store(false, Ordering::Release);
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A value behind an [`IrqLock`].
pub struct Mutex<T> {
    raw: IrqLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives out one guard at a time, so sharing the mutex moves the value between CPUs at most.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A value that nobody holds.
    pub const fn new(value: T) -> Self {
        Self { raw: IrqLock::INIT, value: UnsafeCell::new(value) }
    }

    /// Takes the value; recursion is a bug and panics.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.raw.lock();
        MutexGuard { mutex: self, not_send: PhantomData }
    }

    /// Takes the value if nobody has it: for the panic path, which may have interrupted a holder.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.raw.try_lock().then_some(MutexGuard { mutex: self, not_send: PhantomData })
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> core::fmt::Debug for Mutex<T> {
    /// Without the value: whoever prints may hold the lock.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

/// The right to the value of a [`Mutex`], until dropped.
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    not_send: PhantomData<*mut ()>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard exists, so the lock is held and no other guard does.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`, and the guard is borrowed mutably.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: only `lock` and `try_lock` make guards, after taking the raw lock.
        unsafe { self.mutex.raw.unlock() }
    }
}
