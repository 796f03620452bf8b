// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import "container/list"

// outbox is the queue of messages that wait for the connection or for the server's quota. Client.mu guards it.
type outbox struct {
	items   list.List // of *outgoing
	bytes   int64
	waiting chan struct{} // closed when there is room again; nil if nobody waits
}

func (q *outbox) len() int { return q.items.Len() }

func (q *outbox) add(o *outgoing, place *list.Element) {
	o.place = place
	q.bytes += o.size
}

func (q *outbox) push(o *outgoing) { q.add(o, q.items.PushBack(o)) }

// pushFront puts a message back that has to be sent again.
func (q *outbox) pushFront(o *outgoing) { q.add(o, q.items.PushFront(o)) }

// first returns the oldest message, nil if there is none.
func (q *outbox) first() *outgoing {
	if e := q.items.Front(); e != nil {
		return e.Value.(*outgoing)
	}
	return nil
}

func (q *outbox) pop() *outgoing {
	o := q.first()
	q.remove(o)
	return o
}

func (q *outbox) remove(o *outgoing) {
	q.items.Remove(o.place)
	o.place = nil
	q.bytes -= o.size
	q.wakeAll()
}

// each calls f for every message, in order.
func (q *outbox) each(f func(*outgoing)) {
	for e := q.items.Front(); e != nil; e = e.Next() {
		f(e.Value.(*outgoing))
	}
}

// room returns what is closed when a message leaves the queue.
func (q *outbox) room() <-chan struct{} {
	if q.waiting == nil {
		q.waiting = make(chan struct{})
	}
	return q.waiting
}

func (q *outbox) wakeAll() {
	if q.waiting != nil {
		close(q.waiting)
		q.waiting = nil
	}
}
