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
		sub.draining = false
	case want.QoS == 0 && reads:
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

func checkSubscriptions(subs []Subscription) error {
	for i := range subs {
		if _, err := topic.ParseFilter(subs[i].Filter, 0); err != nil || subs[i].QoS > 2 {
			return ErrInvalid
		}
	}
	return nil
}
