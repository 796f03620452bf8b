// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package session

// Queue is a bounded first-in first-out queue of deliveries that wait for the window.
type Queue[T any] struct {
	items []Delivery[T] // ring; made on first use
	head  int
	n     int
	bytes int
}

// Len is the number of waiting deliveries, Bytes the size of their topics, properties and payloads.
func (q *Queue[T]) Len() int { return q.n }

// Bytes is what the waiting messages weigh.
func (q *Queue[T]) Bytes() int { return q.bytes }

func weight[T any](d *Delivery[T]) int {
	return len(d.Message.Topic) + len(d.Message.Properties) + len(d.Message.Payload)
}

// Push puts a delivery at the end.
func (q *Queue[T]) Push(d Delivery[T]) {
	if q.n == len(q.items) {
		grown := make([]Delivery[T], max(8, 2*len(q.items)))
		for i := range q.n {
			grown[i] = q.items[(q.head+i)%len(q.items)]
		}
		q.items, q.head = grown, 0
	}
	q.items[(q.head+q.n)%len(q.items)] = d
	q.n++
	q.bytes += weight(&d)
}

// Pop takes the oldest delivery. An emptied queue lets its memory go.
func (q *Queue[T]) Pop() (Delivery[T], bool) {
	if q.n == 0 {
		return Delivery[T]{}, false
	}
	d := q.items[q.head]
	q.items[q.head] = Delivery[T]{}
	q.head = (q.head + 1) % len(q.items)
	q.n--
	q.bytes -= weight(&d)
	if q.n == 0 && len(q.items) > 64 {
		*q = Queue[T]{}
	}
	return d, true
}
