// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

// The commands' own parts in the log and in the engine, one after another; record.go has the frame around them. Results,
// Done and Context are not encoded.

func (c *Claim) kind() kind     { return kindClaimCommand }
func (c *Claim) fail(err error) { c.Err = err }
func (c *Claim) failed() bool   { return c.Err != nil }
func (c *Claim) weight() int64  { return c.willSize() }

func (c *Claim) reset() {
	c.Err, c.Present, c.Owner, c.Session, c.Wills, c.Freed = nil, false, Owner{}, Session{}, nil, nil
}

func (c *Claim) finish() {
	if c.Done != nil {
		c.Done(c)
	}
}

func (c *Claim) append(dst []byte) []byte {
	dst = appendString(appendString(dst, c.ClientID), c.Username)
	dst = appendUint(appendBool(dst, c.CleanStart), uint64(c.Expiry))
	dst = appendInt(dst, c.Now)
	if c.Will == nil || c.Will.Message == nil {
		return appendMessage(dst, nil)
	}
	return appendUint(appendMessage(dst, c.Will.Message), uint64(c.Will.Delay))
}

func (c *Claim) decode(d *decoder) {
	c.ClientID, c.Username, c.CleanStart, c.Expiry, c.Now = d.string(), d.string(), d.bool(), d.uint32(), d.int()
	if message := d.message(); message != nil {
		c.Will = &Will{Message: message, Delay: d.uint32()}
	}
}

func (r *Drop) kind() kind     { return kindDropCommand }
func (r *Drop) fail(err error) { r.Err = err }
func (r *Drop) failed() bool   { return r.Err != nil }
func (r *Drop) weight() int64  { return 0 }

func (r *Drop) reset() {
	r.Err, r.Existed, r.ID, r.Wills, r.Freed = nil, false, 0, nil, nil
}

func (r *Drop) finish() {
	if r.Done != nil {
		r.Done(r)
	}
}

func (r *Drop) append(dst []byte) []byte {
	dst = appendString(appendString(dst, r.ClientID), r.Username)
	return appendInt(appendBool(dst, r.AnyUser), r.Now)
}

func (r *Drop) decode(d *decoder) {
	r.ClientID, r.Username, r.AnyUser, r.Now = d.string(), d.string(), d.bool(), d.int()
}

func (r *Detach) kind() kind     { return kindDetachCommand }
func (r *Detach) fail(err error) { r.Err = err }
func (r *Detach) failed() bool   { return r.Err != nil }
func (r *Detach) weight() int64  { return 0 }

func (r *Detach) reset() {
	r.Err, r.Freed = nil, nil
}

func (r *Detach) finish() {
	if r.Done != nil {
		r.Done(r)
	}
}

func (r *Detach) append(dst []byte) []byte {
	dst = appendUint(appendOwner(dst, r.Owner), uint64(r.Expiry))
	dst = appendInflights(appendBool(dst, r.KeepWill), r.Window)
	dst = appendShared(appendRefs(dst, r.Acked), r.AckedShare)
	return appendInt(appendUint(dst, uint64(r.NextID)), r.Now)
}

func (r *Detach) decode(d *decoder) {
	r.Owner, r.Expiry, r.KeepWill, r.Window = d.owner(), d.uint32(), d.bool(), d.inflights()
	r.Acked, r.AckedShare, r.NextID, r.Now = d.refs(), d.shared(), d.uint16(), d.int()
}

func (s *Subscribe) kind() kind     { return kindSubscribeCommand }
func (s *Subscribe) fail(err error) { s.Err = err }
func (s *Subscribe) failed() bool   { return s.Err != nil }
func (s *Subscribe) weight() int64  { return 0 }

func (s *Subscribe) reset() {
	s.Err, s.Existed = nil, s.Existed[:0]
}

func (s *Subscribe) finish() {
	if s.Done != nil {
		s.Done(s)
	}
}

func (s *Subscribe) append(dst []byte) []byte {
	dst = appendUint(appendOwner(dst, s.Owner), uint64(len(s.Subscriptions)))
	for i := range s.Subscriptions {
		dst = appendSubscription(dst, &s.Subscriptions[i])
	}
	return dst
}

func (s *Subscribe) decode(d *decoder) {
	s.Owner = d.owner()
	for range d.count() {
		s.Subscriptions = append(s.Subscriptions, d.subscription())
	}
}

func (u *Unsubscribe) kind() kind     { return kindUnsubscribeCommand }
func (u *Unsubscribe) fail(err error) { u.Err = err }
func (u *Unsubscribe) failed() bool   { return u.Err != nil }
func (u *Unsubscribe) weight() int64  { return 0 }

func (u *Unsubscribe) reset() {
	u.Err, u.Existed = nil, u.Existed[:0]
}

func (u *Unsubscribe) finish() {
	if u.Done != nil {
		u.Done(u)
	}
}

func (u *Unsubscribe) append(dst []byte) []byte {
	dst = appendUint(appendOwner(dst, u.Owner), uint64(len(u.Filters)))
	for _, filter := range u.Filters {
		dst = appendString(dst, filter)
	}
	return dst
}

func (u *Unsubscribe) decode(d *decoder) {
	u.Owner = d.owner()
	for range d.count() {
		u.Filters = append(u.Filters, d.string())
	}
}

func (p *Publish) kind() kind     { return kindPublishCommand }
func (p *Publish) fail(err error) { p.Err = err }
func (p *Publish) failed() bool   { return p.Err != nil }
func (p *Publish) weight() int64  { return p.size() }

func (p *Publish) reset() {
	p.Err, p.Ref, p.Duplicate, p.Matched = nil, Ref{}, false, false
}

func (p *Publish) finish() {
	if p.Done != nil {
		p.Done(p)
	}
}

func (p *Publish) append(dst []byte) []byte {
	dst = appendUint(appendOwner(dst, p.Publisher), uint64(p.PacketID))
	dst = appendBool(appendUint(dst, uint64(p.WillOf)), p.IdentifierOnly)
	if p.IdentifierOnly {
		return appendMessage(dst, nil)
	}
	return appendMessage(dst, p.Message)
}

func (p *Publish) decode(d *decoder) {
	p.Publisher, p.PacketID, p.WillOf = d.owner(), d.uint16(), SessionID(d.uint())
	p.IdentifierOnly, p.Message = d.bool(), d.message()
}

func (r *Release) kind() kind     { return kindReleaseCommand }
func (r *Release) fail(err error) { r.Err = err }
func (r *Release) failed() bool   { return r.Err != nil }
func (r *Release) weight() int64  { return 0 }

func (r *Release) reset() {
	r.Err, r.Found = nil, false
}

func (r *Release) finish() {
	if r.Done != nil {
		r.Done(r)
	}
}

func (r *Release) append(dst []byte) []byte {
	return appendUint(appendOwner(dst, r.Owner), uint64(r.PacketID))
}

func (r *Release) decode(d *decoder) {
	r.Owner, r.PacketID = d.owner(), d.uint16()
}

func (w *Window) kind() kind     { return kindWindowCommand }
func (w *Window) fail(err error) { w.Err = err }
func (w *Window) failed() bool   { return w.Err != nil }
func (w *Window) weight() int64  { return 0 }

func (w *Window) reset() {
	w.Err = nil
}

func (w *Window) finish() {
	if w.Done != nil {
		w.Done(w)
	}
}

func (w *Window) append(dst []byte) []byte {
	return appendUint(appendInflights(appendOwner(dst, w.Owner), w.Entries), uint64(w.NextID))
}

func (w *Window) decode(d *decoder) {
	w.Owner, w.Entries, w.NextID = d.owner(), d.inflights(), d.uint16()
}

func (a *Ack) kind() kind     { return kindAckCommand }
func (a *Ack) fail(err error) { a.Err = err }
func (a *Ack) failed() bool   { return a.Err != nil }
func (a *Ack) weight() int64  { return 0 }

func (a *Ack) reset() {
	a.Err = nil
}

func (a *Ack) finish() {
	if a.Done != nil {
		a.Done(a)
	}
}

func (a *Ack) append(dst []byte) []byte {
	dst = appendShared(appendRefs(appendOwner(dst, a.Owner), a.Refs), a.Share)
	dst = appendUint(dst, uint64(len(a.IDs)))
	for _, id := range a.IDs {
		dst = appendUint(dst, uint64(id))
	}
	return dst
}

func (a *Ack) decode(d *decoder) {
	a.Owner, a.Refs, a.Share = d.owner(), d.refs(), d.shared()
	for range d.count() {
		a.IDs = append(a.IDs, d.uint16())
	}
}

func (t *Tick) kind() kind     { return kindTickCommand }
func (t *Tick) fail(err error) { t.Err = err }
func (t *Tick) failed() bool   { return t.Err != nil }
func (t *Tick) weight() int64  { return 0 }

func (t *Tick) reset() {
	t.Err, t.Ended, t.Wills, t.More = nil, nil, nil, false
}

func (t *Tick) finish() {
	if t.Done != nil {
		t.Done(t)
	}
}

func (t *Tick) append(dst []byte) []byte {
	return appendInt(dst, t.Now)
}

func (t *Tick) decode(d *decoder) {
	t.Now = d.int()
}

func (r *recovery) kind() kind     { return kindRecoveryCommand }
func (r *recovery) fail(err error) { r.Err = err }
func (r *recovery) failed() bool   { return r.Err != nil }
func (r *recovery) weight() int64  { return 0 }

func (r *recovery) reset() {
	r.Err = nil
}

func (r *recovery) finish() {
	if r.Done != nil {
		r.Done()
	}
}

func (r *recovery) append(dst []byte) []byte {
	return appendLimits(appendInt(dst, r.Now), r.Limits)
}

func (r *recovery) decode(d *decoder) {
	r.Now, r.Limits = d.int(), d.limits()
}

func (e *expire) kind() kind     { return kindExpireCommand }
func (e *expire) fail(err error) { e.Err = err }
func (e *expire) failed() bool   { return e.Err != nil }
func (e *expire) weight() int64  { return 0 }

func (e *expire) reset() {
	e.Err = nil
}

func (e *expire) finish() {}

func (e *expire) append(dst []byte) []byte {
	return appendRefs(appendString(appendUint(dst, uint64(e.Session)), e.Share), e.Refs)
}

func (e *expire) decode(d *decoder) {
	e.Session, e.Share, e.Refs = SessionID(d.uint()), d.string(), d.refs()
}

func (c *Claim) willSize() int64 {
	if c.Will == nil || c.Will.Message == nil {
		return 0
	}
	return messageSize(c.Will.Message)
}

func (p *Publish) size() int64 {
	if p.Message == nil {
		return 0
	}
	return messageSize(p.Message)
}

func appendInflights(dst []byte, entries []Inflight) []byte {
	dst = appendUint(dst, uint64(len(entries)))
	for i := range entries {
		dst = appendInflight(dst, &entries[i])
	}
	return dst
}

func (d *decoder) inflights() []Inflight {
	var entries []Inflight
	for range d.count() {
		entries = append(entries, d.inflight())
	}
	return entries
}
