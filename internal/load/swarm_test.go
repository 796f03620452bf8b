// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// noted keeps what a member is told.
type noted struct {
	ready    int
	lost     []error
	messages []string
	acked    []string
}

func (n *noted) Ready()         { n.ready++ }
func (n *noted) Lost(err error) { n.lost = append(n.lost, err) }
func (n *noted) Writable()      {}
func (n *noted) Message(topic, payload []byte, qos byte) {
	n.messages = append(n.messages, fmt.Sprintf("%s %s %d", topic, payload, qos))
}
func (n *noted) Acked(id uint16, reason byte) { n.acked = append(n.acked, fmt.Sprint(id, reason)) }

func swarm(t *testing.T, addr string, o SwarmOptions) *Swarm {
	o.Addr = netip.MustParseAddrPort(addr)
	s, err := NewSwarm(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// until steps until a condition holds.
func until(t *testing.T, s *Swarm, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); {
		if err := s.Step(t.Context(), 1500*time.Microsecond); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(end) {
			t.Fatal("not in time:", what)
		}
	}
}

func TestSwarmInEveryVersionAndQoS(t *testing.T) {
	addr := serve(t)
	for _, version := range []byte{3, 4, 5} {
		for qos := range byte(3) {
			for _, ws := range []bool{false, true} {
				t.Run(fmt.Sprintf("version %d, QoS %d, WebSocket %t", version, qos, ws), func(t *testing.T) {
					s := swarm(t, addr, SwarmOptions{Wire: Wire{WebSocket: ws}})
					var subscriber, publisher noted
					if _, err := s.Open(&Login{ClientID: "s", Version: version, Clean: true}, []string{"a/+", "b"}, qos, &subscriber); err != nil {
						t.Fatal(err)
					}
					m, err := s.Open(&Login{ClientID: "p", Version: version, Clean: true}, nil, 0, &publisher)
					if err != nil {
						t.Fatal(err)
					}
					until(t, s, "connected", func() bool { return subscriber.ready+publisher.ready == 2 })
					p := NewPublication("a/b", []byte("hello"), qos, false, version)
					m.Publish(p, 1)
					copy(p.Payload, "world")
					m.Publish(p, 2)
					until(t, s, "both messages", func() bool { return len(subscriber.messages) == 2 && (qos == 0 || len(publisher.acked) == 2) })
					if got, want := fmt.Sprint(subscriber.messages), fmt.Sprintf("[a/b hello %d a/b world %d]", qos, qos); got != want {
						t.Errorf("received %s, want %s", got, want)
					}
					if qos > 0 && fmt.Sprint(publisher.acked) != "[1 0 2 0]" {
						t.Errorf("acknowledged %v", publisher.acked)
					}
					if err := s.Leave(t.Context(), 5*time.Second); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

func TestSwarmTakesLargePackets(t *testing.T) {
	addr := serve(t)
	for _, ws := range []bool{false, true} {
		s := swarm(t, addr, SwarmOptions{Wire: Wire{WebSocket: ws}})
		var n noted
		m, err := s.Open(&Login{ClientID: "x", Version: 5, Clean: true}, []string{"a"}, 1, &n)
		if err != nil {
			t.Fatal(err)
		}
		until(t, s, "connected", func() bool { return n.ready == 1 })
		payload := bytes.Repeat([]byte("0123456789"), 70_000)
		p := NewPublication("a", payload, 1, false, 5)
		for id := range uint16(3) {
			m.Publish(p, id+1)
		}
		until(t, s, "all messages", func() bool { return len(n.messages) == 3 && len(n.acked) == 3 || len(n.lost) > 0 })
		for _, got := range n.messages {
			if got != fmt.Sprintf("a %s 1", payload) {
				t.Errorf("%d bytes came, or other ones", len(got))
			}
		}
		if len(n.lost) > 0 {
			t.Error(n.lost)
		}
	}
}

func TestSwarmOutlivesTheEndOfAMember(t *testing.T) {
	s := swarm(t, serve(t), SwarmOptions{})
	var first, second noted
	for _, n := range []*noted{&first, &second} { // the same identifier: the second one takes the session over
		if _, err := s.Open(&Login{ClientID: "x", Version: 5, Clean: true}, nil, 0, n); err != nil {
			t.Fatal(err)
		}
		until(t, s, "connected", func() bool { return n.ready == 1 })
	}
	until(t, s, "the end of the first", func() bool { return len(first.lost) == 1 })
	if r, ok := first.lost[0].(*Refusal); !ok || r.Code != 0x8e {
		t.Errorf("it ended with %v", first.lost[0])
	}
	if len(second.lost) > 0 {
		t.Errorf("the other one ended with %v", second.lost)
	}
}

func TestSwarmGivesUpOnSilence(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0") // accepts, by the kernel, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := swarm(t, l.Addr().String(), SwarmOptions{Within: 50 * time.Millisecond})
	var n noted
	if _, err := s.Open(&Login{ClientID: "x", Version: 4}, nil, 0, &n); err != nil {
		t.Fatal(err)
	}
	until(t, s, "the end", func() bool { return len(n.lost) == 1 })
	if n.lost[0] != ErrOverdue {
		t.Errorf("it ended with %v", n.lost[0])
	}
}

func TestSwarmKeepsMembersAlive(t *testing.T) {
	s := swarm(t, serve(t), SwarmOptions{})
	var n noted
	if _, err := s.Open(&Login{ClientID: "x", Version: 4, KeepAlive: 1, Clean: true}, nil, 0, &n); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(2500 * time.Millisecond) // the broker's patience is one and a half seconds
	until(t, s, "time", func() bool { return time.Now().After(end) })
	if n.ready != 1 || len(n.lost) > 0 {
		t.Errorf("%+v", n)
	}
}
