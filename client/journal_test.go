// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// restart ends a client as the end of the program would: nothing is said, nothing is finished.
func restart(t *testing.T, c *Client) {
	t.Helper()
	c.cut()
	<-c.Done()
}

func TestQueueOnDiskOutlivesTheProgram(t *testing.T) {
	for _, sync := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, mqtt.V5)
			o := s.options()
			o.Directory, o.Sync = t.TempDir(), sync
			c := s.client(o)
			for i := range 3 {
				async(t, c, mqtt.QoS(i), fmt.Sprint(i))
			}
			s.accept()
			restart(t, c)
			c = s.client(o)
			if n := c.Stats().Queued; n != 2 {
				t.Fatalf("%d messages were kept, want those of QoS 1 and 2", n)
			}
			p := s.welcome(false)
			p.ack(mqtt.PUBACK, p.wantPublish("1", false).ID)
			id := p.wantPublish("2", false).ID
			p.ack(mqtt.PUBREC, id)
			p.wantAck(mqtt.PUBREL, id)
			p.ack(mqtt.PUBCOMP, id)
			synctest.Wait()
			restart(t, c)
			c = s.client(o)
			if st := c.Stats(); st.Queued != 0 || st.Inflight != 0 {
				t.Errorf("what was acknowledged is still there: %+v", st)
			}
		})
	}
}

// The program may end at each step of QoS 2: the message arrives once.
func TestQoS2GoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.Directory = t.TempDir()
		c := s.client(o)
		p := s.welcome(false)
		async(t, c, 2, "x")
		id := p.wantPublish("x", false).ID

		restart(t, c)
		c = s.client(o)
		p = s.welcome(true)
		if k := p.wantPublish("x", true); k.ID != id {
			t.Fatalf("the identifier is %d, it was %d", k.ID, id)
		}
		p.ack(mqtt.PUBREC, id)
		p.wantAck(mqtt.PUBREL, id)

		restart(t, c)
		c = s.client(o)
		p = s.welcome(true)
		p.wantAck(mqtt.PUBREL, id)
		async(t, c, 1, "next")
		if k := p.wantPublish("next", false); k.ID == id {
			t.Error("the identifier is used twice")
		}
		p.ack(mqtt.PUBCOMP, id)
		synctest.Wait()
		if n := c.Stats().Inflight; n != 1 {
			t.Errorf("%d are under way, want 1", n)
		}

		restart(t, c)
		s.client(o)
		p = s.welcome(false) // and the server has forgotten everything
		p.wantPublish("next", false)
	})
}

func TestReceivedQoS2IsRememberedOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.Directory = t.TempDir()
		h, got := collector()
		o.Handler = h
		c := s.client(o)
		p := s.welcome(false)
		p.publish(2, 9, "x")
		p.wantAck(mqtt.PUBREC, 9)
		wantMessages(t, got, "x")
		restart(t, c)
		c = s.client(o)
		p = s.welcome(true)
		p.send(&mqtt.Publish{Topic: []byte("t"), QoS: 2, ID: 9, Payload: []byte("x"), Dup: true})
		p.wantAck(mqtt.PUBREC, 9)
		p.ack(mqtt.PUBREL, 9)
		p.wantAck(mqtt.PUBCOMP, 9)
		wantMessages(t, got)
		restart(t, c)
		s.client(o)
		p = s.welcome(true)
		p.publish(2, 9, "new")
		p.wantAck(mqtt.PUBREC, 9)
		wantMessages(t, got, "new")
	})
}

func TestExpiryGoesOnWhileTheProgramIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.Directory = t.TempDir()
		c := s.client(o)
		for _, d := range []time.Duration{5 * time.Second, time.Minute} {
			if _, err := c.PublishAsync(t.Context(), Message{Topic: "t", QoS: 1, Expiry: d, Payload: []byte(d.String())}); err != nil {
				t.Fatal(err)
			}
		}
		s.accept()
		restart(t, c)
		time.Sleep(20 * time.Second)
		s.client(o)
		k := s.welcome(false).wantPublish("1m0s", false)
		if left, _ := k.Properties.Uint32(mqtt.PropMessageExpiryInterval); left != 40 {
			t.Errorf("%d s are left, want 40", left)
		}
	})
}

// fileOf leaves a queue of three messages and returns its file.
func fileOf(t *testing.T, o Options) []byte {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		async(t, c, 1, fmt.Sprint("message ", i))
	}
	c.Close(t.Context())
	b, err := os.ReadFile(filepath.Join(o.Directory, "outbox"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A file cut anywhere is read up to its last whole record.
func TestTornFileIsReadUpToTheTear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newServer(t, mqtt.V5).options()
		o.Directory = t.TempDir()
		whole := fileOf(t, o)
		last := -1
		for n := range len(whole) + 1 {
			if err := os.WriteFile(filepath.Join(o.Directory, "outbox"), whole[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := New(o)
			if err != nil {
				t.Fatalf("cut at %d: %v", n, err)
			}
			if kept := c.Stats().Queued; kept < last || kept > 3 {
				t.Fatalf("cut at %d: %d messages, there were %d", n, kept, last)
			} else {
				last = kept
			}
			c.Close(t.Context())
		}
		if last != 3 {
			t.Errorf("the whole file has %d messages", last)
		}
		if _, err := os.Stat(filepath.Join(o.Directory, "outbox.damaged")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a torn file counts as damaged: %v", err)
		}
	})
}

func TestDamagedFileIsKeptAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newServer(t, mqtt.V5).options()
		o.Directory = t.TempDir()
		b := fileOf(t, o)
		b[bytes.Index(b, []byte("message 1"))] ^= 1
		if err := os.WriteFile(filepath.Join(o.Directory, "outbox"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(t.Context())
		if n := c.Stats().Queued; n != 1 {
			t.Errorf("%d messages, want the one before the damage", n)
		}
		if kept, err := os.ReadFile(filepath.Join(o.Directory, "outbox.damaged")); err != nil || !bytes.Equal(kept, b) {
			t.Errorf("the file was not kept: %v", err)
		}
	})
}

func TestDirectoryBelongsToOneClient(t *testing.T) {
	o := Options{Servers: []string{"mqtt://s"}, ClientID: "c", Directory: t.TempDir()}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if other, err := New(o); err == nil {
		other.Close(t.Context())
		t.Error("two clients have one directory")
	}
	c.Close(t.Context())
	o.ClientID = "another"
	if other, err := New(o); err == nil {
		other.Close(t.Context())
		t.Error("another client has taken the directory over")
	}
	o.ClientID = ""
	if other, err := New(o); err == nil {
		other.Close(t.Context())
		t.Error("a client without identifier has a directory")
	}
}

func TestFileIsWrittenAnewBeforeItGrowsWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, mqtt.V5)
		o := s.options()
		o.Directory = t.TempDir()
		c := s.client(o)
		p := s.welcome(false)
		stays := async(t, c, 1, "stays")
		p.wantPublish("stays", false)
		payload := string(bytes.Repeat([]byte("x"), 100<<10))
		for range 50 { // 5 MB
			token := async(t, c, 1, payload)
			p.ack(mqtt.PUBACK, p.wantPublish(payload, false).ID)
			wantDone(t, token, nil)
		}
		wantPending(t, stays)
		if size := c.journal.size; size > 2*compactAt {
			t.Errorf("the file has %d bytes", size)
		}
		restart(t, c)
		s.client(o)
		s.welcome(true).wantPublish("stays", true)
	})
}
