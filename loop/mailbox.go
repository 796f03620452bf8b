// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

// Post has t run on l. From any goroutine. Tasks of one goroutine run in the
// order posted. The mailbox has no limit of its own: who posts on behalf of a
// peer holds a credit.
func (l *Loop) Post(t Task) {
	m := &l.mail
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		l.group.dropped.Add(1)
		return
	}
	m.tasks = append(m.tasks, t)
	wake := m.arrived(1)
	m.mu.Unlock()
	if wake {
		l.wake()
	}
}

// PostBatch has all of ts run on l, in order. From any goroutine. ts is copied.
func (l *Loop) PostBatch(ts []Task) {
	if l.put(ts) {
		l.wake()
	}
}

// wake wakes the loop for a task.
func (l *Loop) wake() {
	l.stats.wakes.Add(1)
	l.poll.Wake()
}

// put puts ts into the mailbox and reports whether the loop is to be woken.
func (l *Loop) put(ts []Task) (wake bool) {
	if len(ts) == 0 {
		return false
	}
	m := &l.mail
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		l.group.dropped.Add(int64(len(ts)))
		return false
	}
	m.tasks = append(m.tasks, ts...)
	return m.arrived(len(ts))
}

// arrived notes that tasks were added and reports whether the loop is to be
// woken. The caller holds the lock and wakes after it has let go of it.
func (m *mailbox) arrived(n int) (wake bool) {
	m.posted += int64(n)
	m.high = max(m.high, len(m.tasks))
	wake, m.asleep = m.asleep, false
	return wake
}

// take returns all tasks and leaves room, an empty slice, for the next.
func (m *mailbox) take(room []Task) []Task {
	m.mu.Lock()
	tasks := m.tasks
	m.tasks = room
	m.mu.Unlock()
	return tasks
}

// sleep reports whether the mailbox is empty; if so the next post wakes the loop.
func (m *mailbox) sleep() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asleep = len(m.tasks) == 0
	return m.asleep
}

// awake says that the loop does not sleep any more.
func (m *mailbox) awake() {
	m.mu.Lock()
	m.asleep = false
	m.mu.Unlock()
}

// close refuses further tasks and returns how many are left.
func (m *mailbox) close() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.tasks)
	m.tasks, m.closed = nil, true
	return n
}

// Send has t run on the loop to. On l's own goroutine only. What an iteration
// sends to one loop is posted as one batch at its end. Sent to itself it runs
// in the next iteration.
func (l *Loop) Send(to *Loop, t Task) {
	l.out[to.index] = append(l.out[to.index], t)
}

// handOver posts the outboxes. A loop that sleeps is woken, or helped.
func (l *Loop) handOver() {
	for i, ts := range l.out {
		if len(ts) == 0 {
			continue
		}
		to := l.group.loops[i]
		light := !l.helping && allLight(ts) // once they are there, they are the other loop's
		if to.put(ts) && !(light && to.help()) {
			to.wake()
		}
		clear(ts)
		l.out[i] = room(ts)
	}
}

// empty reports whether no tasks wait.
func (m *mailbox) empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.tasks) == 0
}
