// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"slices"

	"github.com/noctule/noctule/topic"
)

// subscribe adds or replaces one subscription. It reports whether there was one with the same filter.
func (m *machine) subscribe(s *session, want Subscription) (existed bool) {
	i, existed := s.findSub(want.Filter)
	if !existed {
		s.subs = slices.Insert(s.subs, i, &sub{})
		m.stats.Subscriptions++
	}
	sub := s.subs[i]
	reads := sub.f != nil && !sub.draining
	sub.Subscription = want
	switch {
	case want.QoS > 0 && !reads:
		f, _ := topic.ParseFilter(want.Filter, 0) // checked before
		sub.f = m.addReader(want.Filter, f.Filter, f.Share != "", s)
		sub.f.join(s, sub)
		sub.draining = false
		m.joined(s, sub.f)
	case want.QoS == 0 && reads:
		sub.f.leave(sub)
		m.drainReader(sub.f, s)
		sub.draining = !sub.f.share
		if sub.f.share {
			sub.f = nil
		}
	}
	if sub.f != nil {
		sub.Filter = sub.f.name // one string for all
	}
	m.saveSub(s, sub)
	return existed
}

// join makes the session of a subscription a member of its filter.
func (f *filter) join(s *session, sub *sub) {
	if f.share {
		return
	}
	sub.s, sub.place = s, len(f.members)
	f.members = append(f.members, sub)
}

// leave undoes join.
func (f *filter) leave(sub *sub) {
	if f.share {
		return
	}
	last := len(f.members) - 1
	f.members[sub.place] = f.members[last]
	f.members[sub.place].place = sub.place
	f.members[last] = nil
	f.members = f.members[:last]
}

func checkSubscriptions(subs []Subscription) error {
	for i := range subs {
		if _, err := topic.ParseFilter(subs[i].Filter, 0); err != nil || subs[i].QoS > 2 {
			return ErrInvalid
		}
	}
	return nil
}
