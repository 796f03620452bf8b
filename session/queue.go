// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package session

// Queue is a first-in first-out queue of deliveries that wait for the window; its bounds are the owner's. An empty one is a nil
// pointer, mostly.
type Queue[T any] struct{ ring *ring[T] }

type ring[T any] struct {
	items []Delivery[T]
	head  int
	n     int
	bytes int
}

// Len is the number of waiting deliveries, Bytes the size of their topics, properties and payloads.
func (q *Queue[T]) Len() int {
	if q.ring == nil {
		return 0
	}
	return q.ring.n
}

// Bytes is what the waiting messages weigh.
func (q *Queue[T]) Bytes() int {
	if q.ring == nil {
		return 0
	}
	return q.ring.bytes
}

func weight[T any](d *Delivery[T]) int {
	return len(d.Message.Topic) + len(d.Message.Properties) + len(d.Message.Payload)
}

// Push puts a delivery at the end.
func (q *Queue[T]) Push(d Delivery[T]) {
	if q.ring == nil {
		q.ring = new(ring[T])
	}
	r := q.ring
	if r.n == len(r.items) {
		grown := make([]Delivery[T], max(8, 2*len(r.items)))
		for i := range r.n {
			grown[i] = r.items[(r.head+i)%len(r.items)]
		}
		r.items, r.head = grown, 0
	}
	r.items[(r.head+r.n)%len(r.items)] = d
	r.n++
	r.bytes += weight(&d)
}

// Front is the oldest delivery; the queue must not be empty.
func (q *Queue[T]) Front() *Delivery[T] { return &q.ring.items[q.ring.head] }

// Pop takes the oldest delivery. An emptied queue that was long lets its memory go.
func (q *Queue[T]) Pop() (Delivery[T], bool) {
	r := q.ring
	if r == nil || r.n == 0 {
		return Delivery[T]{}, false
	}
	d := r.items[r.head]
	r.items[r.head] = Delivery[T]{}
	r.head = (r.head + 1) % len(r.items)
	r.n--
	r.bytes -= weight(&d)
	if r.n == 0 && len(r.items) > 64 {
		q.ring = nil
	}
	return d, true
}
