// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"sync"

	"github.com/noctule/noctule/internal/invariants"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/topic"
	"github.com/noctule/noctule/transport"
)

// parcelFull is how many bytes a parcel takes, about; then another one follows.
const parcelFull = 256 << 10

// parcel is what one iteration of a loop has for the receivers of another one, in order. It is handed over at the end of the iteration: so
// a hundred messages cost one hand-over.
type parcel struct {
	to    *shard
	items []parcelled
	lists [][]*subscriber // the receivers of all items
	buf   []byte          // topic, properties and payload of all items that are no Message
	size  int             // what it counts against the handover limit of to
}

// parcelled is one message of a parcel.
type parcelled struct {
	m                     *mqtt.Message    // nil for one of QoS 0 that nobody has cloned yet
	block                 *transport.Block // a reference; has the payload instead of buf where it is not nil
	from                  string           // client identifier of the publisher
	now                   int64
	lists, filters        int // how many of the parcel's lists, of how many filters
	topic, props, payload int // bytes in the parcel's buf
	qos                   mqtt.QoS
	retain, stored        bool
}

var parcels = sync.Pool{New: func() any { return new(parcel) }}

// packer packs the parcels from one shard to another.
type packer struct {
	loop.DirtyMark
	from, to *shard
	parcel   *parcel // nil if there is nothing yet
}

// add packs a message for its receivers there.
func (k *packer) add(f *fanout, ms *topic.Matches[*subscriber]) {
	if k.parcel == nil {
		k.parcel = parcels.Get().(*parcel)
		invariants.CheckPoison(k.parcel.buf[:cap(k.parcel.buf)], "a parcel")
		k.parcel.to = k.to
		k.from.loop.Dirty(k)
	}
	if k.parcel.add(f, ms); k.parcel.size >= parcelFull {
		k.Flush(k.from.loop)
	}
}

// onWay is how many bytes are on their way to the other loop, with those that are packed.
func (k *packer) onWay() int64 {
	n := k.to.handed.Load()
	if k.parcel != nil {
		n += int64(k.parcel.size)
	}
	return n
}

// Flush hands over what is packed. The parcel belongs to the other loop then.
func (k *packer) Flush(l *loop.Loop) {
	if p := k.parcel; p != nil {
		k.parcel = nil
		k.to.handed.Add(int64(p.size))
		l.Send(k.to.loop, (*delivery)(p))
	}
}

// add puts a message in, for its receivers there.
func (p *parcel) add(f *fanout, ms *topic.Matches[*subscriber]) {
	before := len(p.lists)
	p.lists = ms.AppendOwner(p.lists, p.to.n)
	if len(p.lists) == before {
		return // they have just gone
	}
	it := parcelled{m: f.m, from: f.from, now: f.now, qos: f.qos, retain: f.retain, stored: f.stored,
		lists: len(p.lists) - before, filters: ms.OwnerFilters(p.to.n), topic: len(f.topic), props: len(f.props), payload: len(f.payload)}
	if f.m == nil {
		p.buf = append(append(p.buf, f.topic...), f.props...)
		if f.block != nil {
			it.block, it.payload = f.takeRef(), 0
		} else {
			p.buf = append(p.buf, f.payload...)
		}
	}
	p.items = append(p.items, it)
	p.size += f.weight()
}

// delivery is a parcel that has arrived.
type delivery parcel

// lightDeliveries is how many receivers a parcel may have to be worked off by whoever sends it, if the other loop sleeps.
const lightDeliveries = 8

// Light implements loop.Light.
func (d *delivery) Light() bool {
	n := 0
	for _, l := range d.lists {
		n += len(l)
	}
	return n <= lightDeliveries && d.size < parcelFull/8
}

// parcelDeliveries is how many deliveries of a parcel are made at once. It is several slices: the messages of a burst share their writes
// only if they are delivered together.
const parcelDeliveries = 8 * sliceSize

// Run delivers.
func (d *delivery) Run(*loop.Loop) {
	p := (*parcel)(d)
	q := &p.to.fans
	budget := parcelDeliveries
	lists, buf := p.lists, p.buf
	for i := range p.items {
		it := &p.items[i]
		f := &q.mail
		f.reset()
		f.m, f.from, f.now, f.qos, f.retain, f.stored, f.filters, f.sh = it.m, it.from, it.now, it.qos, it.retain, it.stored, it.filters, p.to
		f.lists, lists = append(f.lists, lists[:it.lists]...), lists[it.lists:]
		if it.m != nil {
			f.topic, f.payload, f.props = bytesOf(it.m.Topic), it.m.Payload, it.m.Properties
		} else {
			t, s, e := it.topic, it.topic+it.props, it.topic+it.props+it.payload
			f.topic, f.props, f.payload, buf = buf[:t:t], mqtt.Properties(buf[t:s:s]), buf[s:e:e], buf[e:]
		}
		if it.block != nil {
			f.block, f.refs, f.payload = it.block, 1, it.block.Bytes()
		}
		budget -= q.accept(f, min(budget, sliceSize))
		f.unshare()
	}
	q.mail.reset()
	p.free()
}

// free gives a parcel back that is worked off.
func (p *parcel) free() {
	to := p.to
	to.handed.Add(-int64(p.size))
	clear(p.items)
	clear(p.lists)
	invariants.Poison(p.buf[:cap(p.buf)])
	p.items, p.lists, p.buf, p.size, p.to = p.items[:0], p.lists[:0], p.buf[:0], 0, nil
	if cap(p.buf) <= 2*parcelFull && cap(p.items) <= parcelFull/64 {
		parcels.Put(p)
	}
	to.relieve()
}
