// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"fmt"
	"time"
)

// Shape says who sends to whom.
type Shape byte

const (
	Pairs  Shape = iota // each publisher has a subscriber of its own
	FanIn               // all publishers to one subscriber
	FanOut              // one publisher to all subscribers
	Share               // all publishers to Members that share one subscription
	Routes              // as Pairs, spread over many filters, each of which matches one topic name
)

// Plan is a load.
type Plan struct {
	Shape   Shape
	Clients int  // pairs, publishers or subscribers, as the shape says
	QoS     byte // of publishing and of subscribing
	Payload int  // bytes, at least 12
	Window  int  // messages under way for each publisher
	Filters int  // of Routes, in all; at most 1 000 000
	Members int  // of Share
	Burst   bool // top a window up only when all of it is done, so that batches do not depend on timing
	Wire
	// Rate is how many messages a second fall due, of all publishers; 0 is as fast as the windows allow. What falls due while a window is
	// full is sent later, and its latency counts from when it was due.
	Rate     float64
	Firehose *Firehose // beside all that; nil is none
	// Subscribed is called when all clients are connected and subscribed, before anything is sent; its error ends the run. nil is nothing.
	Subscribed func() error
	// Stalled is called when nothing has arrived for too long, before what is under way is given up. nil is nothing.
	Stalled func()
	// Persistent has the sessions of subscribers outlive their connections, so that the broker has to keep their messages.
	Persistent bool
	Patience   time.Duration // how long nothing may arrive before what is under way counts as lost; 0 is half a second

	WarmUp, Measured time.Duration
}

// strider is how Routes walks through its topics: a prime, so that it meets all of them in an order that no cache guesses.
const strider = 7919

// build makes the flows and clients of a plan. Subscribers come first.
func (p *Plan) build(delivered *uint64) (flows []*flow, receivers []*receiver, clients []client) {
	flows = make([]*flow, p.publishers())
	for i := range flows {
		topics, filters := p.topics(i)
		each := 1
		if p.Shape == FanOut {
			each = p.Clients
		}
		flows[i] = newFlow(i, p, topics, each)
		if p.Shape == Pairs || p.Shape == Routes {
			r := &receiver{flows: flows, first: i, tracks: make([]Tracker, 1), delivered: delivered}
			receivers = append(receivers, r)
			clients = append(clients, client{id: fmt.Sprint("sub", i), filters: filters, qos: p.QoS, role: r, persistent: p.Persistent})
		}
	}
	switch p.Shape {
	case Share:
		r := &receiver{flows: flows, tracks: make([]Tracker, len(flows)), delivered: delivered, shared: true}
		receivers = append(receivers, r)
		for i := range p.Members {
			clients = append(clients, client{id: fmt.Sprint("sub", i), filters: []string{"$share/load/load/+"}, qos: p.QoS, role: r, persistent: p.Persistent})
		}
	case FanIn:
		r := &receiver{flows: flows, tracks: make([]Tracker, len(flows)), delivered: delivered}
		receivers = append(receivers, r)
		clients = append(clients, client{id: FanInSubscriber, filters: []string{"load/+"}, qos: p.QoS, role: r, persistent: p.Persistent})
	case FanOut:
		for i := range p.Clients {
			r := &receiver{flows: flows, tracks: make([]Tracker, 1), delivered: delivered}
			receivers = append(receivers, r)
			clients = append(clients, client{id: fmt.Sprint("sub", i), filters: []string{"load/0"}, qos: p.QoS, role: r, persistent: p.Persistent})
		}
	}
	for i, f := range flows {
		clients = append(clients, client{id: publisherID(i), role: f})
	}
	return flows, receivers, clients
}

// FanInSubscriber is the client identifier of the one subscriber of FanIn.
const FanInSubscriber = "sub"

// publisherID is the client identifier of publisher i.
func publisherID(i int) string { return fmt.Sprint("pub", i) }

func (p *Plan) publishers() int {
	if p.Shape == FanOut {
		return 1
	}
	return p.Clients
}

// topics are the topic names of flow i, in the order of their use, and the filters that match them.
func (p *Plan) topics(i int) (names, filters []string) {
	if p.Shape != Routes {
		name := fmt.Sprint("load/", i)
		return []string{name}, []string{name}
	}
	n := p.Filters / p.Clients
	names, filters = make([]string, n), make([]string, n)
	for k := range n {
		number := i*n + k
		name, filter := route(number)
		filters[k] = filter
		names[k*strider%n] = name
	}
	return names, filters
}

// route is the number-th topic name and its filter: in turn exact, with +, with # and with a leading +.
func route(number int) (name, filter string) {
	switch number % 4 {
	case 0:
		name = fmt.Sprintf("site/%06d/exact", number)
		return name, name
	case 1:
		return fmt.Sprintf("site/%06d/inner", number), fmt.Sprintf("site/%06d/+", number)
	case 2:
		return fmt.Sprintf("site/%06d/below", number), fmt.Sprintf("site/%06d/#", number)
	default:
		return fmt.Sprintf("site/%06d/first", number), fmt.Sprintf("+/%06d/first", number)
	}
}
