// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package limit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// Per is what a rule counts by: all connections with the same one share its rates and counts.
type Per byte

// What rules count by.
const (
	PerClient   Per = iota // client identifier
	PerUser                // user name; clients without one share the empty one
	PerAddress             // remote address; of IPv6 its /64; clients of Unix sockets share one
	PerListener            // the listener's name
	PerRule                // all clients that the rule holds for, together
	Pers                   // how many
)

// PerWords are the words for Per in the order of its values.
var PerWords = []string{"client", "user", "address", "listener", "rule"}

func (p Per) String() string { return PerWords[p] }

// Policy is what happens to a PUBLISH beyond messages_in or bytes_in.
type Policy byte

// Policies.
const (
	Pause      Policy = iota // the connection is not read until its turn comes: nothing is lost
	Reject                   // QoS 0 is dropped, QoS 1 and 2 answered 0x97; of clients before 5.0, which know no such answer, they are paused
	Drop                     // likewise, but of clients before 5.0 they are acknowledged and dropped
	Disconnect               // the connection ends: 0x96 for messages, 0x97 for bytes
)

// PolicyWords are the words for Policy in the order of its values.
var PolicyWords = []string{"pause", "reject", "drop", "disconnect"}

func (p Policy) String() string { return PolicyWords[p] }

// Pauses says that nothing is refused.
func (p Policy) Pauses() bool { return p == Pause }

// Caps bound each connection, whatever the rule counts by. In all of them 0 is no bound of this rule's; what holds for all clients
// bounds too.
type Caps struct {
	MaxPacket        int
	MaxTopicLevels   int
	MaxTopicLength   int
	MaxSubscriptions int
	ReceiveMaximum   int // QoS 1 and 2 in flight from the client
	MaxInflight      int // likewise to it
	MaxQueueMessages int
	MaxQueueBytes    int
	MaxSessionExpiry time.Duration
	MaxQoS           mqtt.QoS // here 0 is a bound, and 2 is none
}

// Rule says what the clients that it matches may use. A client is matched if each list that is not empty has an entry for it. In all lists but
// Addresses and Groups "*" stands for any run of characters.
type Rule struct {
	Name      string // unique; for logs and metrics
	Listeners []string
	Users     []string
	Groups    []string // as the authenticator gave them
	Clients   []string // client identifiers
	Addresses []string // of the client, as CIDR or single

	Per    Per
	Policy Policy

	Connects              Rate
	MessagesIn, BytesIn   Rate // PUBLISH packets; bytes of all packets
	MessagesOut, BytesOut Rate // PUBLISH packets and their bytes; what is more waits in the queue
	MaxConnections        int64
	MaxRetained           int64 // retained messages
	MaxRetainedBytes      int64 // of their topics and payloads
	Caps
}

// BoundsRetained says whether the rule bounds retained messages.
func (r *Rule) BoundsRetained() bool { return r.MaxRetained > 0 || r.MaxRetainedBytes > 0 }

// Who is a client as rules see it.
type Who struct {
	Listener string
	User     string
	Groups   []string
	Client   string
	Address  netip.Addr // not valid for Unix sockets
	Known    bool       // user and groups are those that an authenticator vouches for
}

// rule is a Rule made ready.
type rule struct {
	Rule
	prefixes []netip.Prefix
	accounts accounts
	hits     [Kinds]hits
}

func compile(r Rule) (*rule, error) {
	c := &rule{Rule: r}
	for _, a := range r.Addresses {
		p, err := ParsePrefix(a)
		if err != nil {
			return nil, err
		}
		c.prefixes = append(c.prefixes, p)
	}
	if r.BoundsRetained() && r.Per != PerClient && r.Per != PerUser {
		return nil, fmt.Errorf("retained messages are counted by client or user, not by %s", r.Per)
	}
	for _, rate := range []Rate{r.Connects, r.MessagesIn, r.BytesIn, r.MessagesOut, r.BytesOut} {
		if rate.PerSecond < 0 || rate.PerSecond > MaxRate || rate.Burst < 0 || rate.Burst > MaxBurst {
			return nil, fmt.Errorf("a rate of %d with a burst of %d is out of range", rate.PerSecond, rate.Burst)
		}
	}
	return c, nil
}

// ParsePrefix reads an address range, or a single address as one.
func ParsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is not an address range", s)
	}
	return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
}

// holds says whether the rule holds for a client; later: only an authenticator can tell.
func (r *rule) holds(w *Who) (yes, later bool) {
	if !oneOf(r.Listeners, w.Listener) || !oneOf(r.Clients, w.Client) || !r.hasAddress(w.Address) {
		return false, false
	}
	if len(r.Users)+len(r.Groups) > 0 && !w.Known {
		return false, true
	}
	if !oneOf(r.Users, w.User) {
		return false, false
	}
	if len(r.Groups) == 0 {
		return true, false
	}
	return slices.ContainsFunc(w.Groups, func(g string) bool { return slices.Contains(r.Groups, g) }), false
}

func (r *rule) hasAddress(a netip.Addr) bool {
	if len(r.prefixes) == 0 {
		return true
	}
	return slices.ContainsFunc(r.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

func oneOf(patterns []string, s string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return glob(p, s) })
}

// glob matches s with a pattern in which * stands for any run of characters. The time is bounded by the product of their lengths.
func glob(pattern, s string) bool {
	head, rest, any := strings.Cut(pattern, "*")
	if !any {
		return s == pattern
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], after
	}
}

// key is what the rule counts a client by.
func (r *rule) key(w *Who) string {
	switch r.Per {
	case PerClient:
		return w.Client
	case PerUser:
		return w.User
	case PerAddress:
		return addressKey(w.Address)
	case PerListener:
		return w.Listener
	}
	return ""
}

// addressKey is an address of IPv4, or the /64 of one of IPv6: whoever has one of its addresses has them all.
func addressKey(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	if a = a.Unmap(); a.Is6() {
		p, _ := a.WithZone("").Prefix(64) // fails only for lengths out of range
		return p.String()
	}
	return a.String()
}
