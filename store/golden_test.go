// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/noctule/noctule/mqtt"
)

// In testdata there is a folder for each version of the format that was ever released: a data folder as a kill leaves it, with a state and
// a log behind it, a backup of the same, and what is in both in words. -update writes those of the version of this program.

// furnish does something of every kind. It is called twice: the second time goes to the log only.
func furnish(t *testing.T, s Store, round string) {
	t.Helper()
	do := func(propose func(done func())) {
		done := make(chan struct{})
		propose(func() { close(done) })
		<-done
	}
	lamp, door := claim(t, s, "lamp "+round).Owner, claim(t, s, "door "+round).Owner
	subscribe(t, s, lamp, "home/#", "$share/all/work/+")
	subscribe(t, s, door, "home/#", "home/+/"+round)
	var kept []Ref
	for i := range 5 {
		p := publish(s, &Publish{Message: message(fmt.Sprintf("home/%d/%s", i, round), fmt.Sprint("message ", i, " ", round), i%2 == 0)})
		kept = append(kept, p.Ref)
	}
	publish(s, &Publish{Message: message("work/"+round, "shared "+round, false)})
	long := &mqtt.Message{Topic: "long/" + round, Payload: bytes.Repeat([]byte(round), 3000), QoS: 2, Retain: true, Received: 7, ClientID: "p", Username: "u"}
	publish(s, &Publish{Message: long, Publisher: door, PacketID: 9})
	do(func(done func()) {
		s.ProposeWindow(&Window{Owner: lamp, NextID: 4, Done: func(*Window) { done() }, Entries: []Inflight{
			{ID: 1, QoS: 1, State: Sent, Ref: kept[0], Identifiers: []uint32{5}}, {ID: 3, QoS: 2, State: Released},
		}})
	})
	do(func(done func()) { s.ProposeAck(&Ack{Owner: door, Refs: kept[1:3], Done: func(*Ack) { done() }}) })
	do(func(done func()) {
		s.ProposeClaim(&Claim{ClientID: "will " + round, Username: "u", Expiry: 1000, Now: 3e9,
			Will: &Will{Message: message("wills/"+round, "gone", false), Delay: 500}, Done: func(*Claim) { done() }})
	})
}

// account puts what a machine has in words.
func account(m *machine) string {
	var w strings.Builder
	fmt.Fprintf(&w, "%+v\n", m.contents())
	from, to := allRows()
	m.rows.Scan(from, to, func(key, value []byte) bool {
		switch key[2] {
		case kindSession:
			s := m.byClient[keyName(key)]
			fmt.Fprintf(&w, "session %q of %q, attached %t, expiry %d, next %d\n", s.clientID, s.username, s.attached, s.expiry, s.nextID)
			if s.will != nil {
				fmt.Fprintf(&w, "  will %s, delay %d\n", s.will.message.Topic, s.will.delay)
			}
			for _, sub := range s.subs {
				fmt.Fprintf(&w, "  %s, QoS %d\n", sub.Filter, sub.QoS)
			}
			for _, h := range m.windowOf(s) {
				fmt.Fprintf(&w, "  in flight %d, QoS %d, state %d, identifiers %v, position %d\n", h.ID, h.QoS, h.State, h.Identifiers, h.Ref.Position)
			}
			fmt.Fprintf(&w, "  received %v, owed %d\n", s.received, s.owed().messages)
		case kindRetained:
			r, err := decodeRetained(keyGroup(key), value)
			if err != nil {
				fmt.Fprintln(&w, err)
				return true
			}
			fmt.Fprintf(&w, "retained %s: %s\n", keyName(key), inWords(m, r.ref()))
		case kindQueue:
			fmt.Fprintf(&w, "queued for %s: %s\n", m.filtersByID[keyNumber(key)].name, inWords(m, Ref{keyGroup(key), Position(keyNumber2(key))}))
		}
		return true
	})
	return w.String()
}

func inWords(m *machine, ref Ref) string {
	body, err := m.bodies.Get(ref)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("position %d, %s, QoS %d, of %s, %.20q and %d bytes", ref.Position, body.Topic, body.QoS, body.ClientID, body.Payload, len(body.Payload))
}

// golden writes the files of this version.
func golden(t *testing.T, dir string) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	e := openDisk(t, fs, Options{WriteBuffer: 64 << 10, Groups: 4})
	furnish(t, e, "first")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openDisk(t, fs, Options{WriteBuffer: 64 << 10, Groups: 4})
	furnish(t, e, "second")
	cut := fs.CrashClone(vfs.CrashCloneCfg{})
	b, _ := backup(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := openFolder(cut, "data", nil)
	if err == nil {
		err = f.sound()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	for name, content := range map[string][]byte{"folder.zip": zipped(t, cut), "backup": b, "contents.txt": []byte(account(f.machine))} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// zipped is the folder "data", without what a running broker adds.
func zipped(t *testing.T, fs vfs.FS) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	var add func(dir string)
	add = func(dir string) {
		names, err := fs.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			path := fs.PathJoin(dir, name)
			info, err := fs.Stat(path)
			switch {
			case err != nil:
				t.Fatal(err)
			case info.IsDir():
				add(path)
			case name != lockFile && name != pidFile && name != ballastFile:
				f, err := fs.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				w, err := z.Create(path)
				if err == nil {
					_, err = io.Copy(w, f)
				}
				if err = errors.Join(err, f.Close()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	add("data")
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unzipped is the reverse of zipped.
func unzipped(t *testing.T, path string) *vfs.MemFS {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	fs := vfs.NewMem()
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := fs.MkdirAll(fs.PathDir(f.Name), 0o700); err != nil {
			t.Fatal(err)
		}
		w, err := fs.Create(f.Name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, r); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Close(), r.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

func TestEveryFormatCanBeRead(t *testing.T) {
	if *update {
		golden(t, fmt.Sprintf("testdata/format%d", formatVersion))
	}
	dirs, err := filepath.Glob("testdata/format*")
	if err != nil || len(dirs) != formatVersion {
		t.Fatalf("there are %v for %d versions, %v", dirs, formatVersion, err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join(dir, "contents.txt"))
			if err != nil {
				t.Fatal(err)
			}
			fs := unzipped(t, filepath.Join(dir, "folder.zip"))
			if r := verify(t, "data", fs); len(r.Findings) > 0 || r.LogRecords == 0 || r.Rows == 0 {
				t.Fatalf("%+v", r)
			}
			f, err := openFolder(fs, "data", nil)
			if err == nil {
				err = f.sound()
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := account(f.machine); got != string(want) {
				t.Errorf("the folder has\n%s\nwant\n%s", got, want)
			}
			f.close()
			b, err := os.ReadFile(filepath.Join(dir, "backup"))
			if err != nil {
				t.Fatal(err)
			}
			again, _ := restored(t, b)
			if got := account(again.machine); got != string(want) {
				t.Errorf("the backup has\n%s\nwant\n%s", got, want)
			}
			var told notices
			e := openDisk(t, fs, Options{Groups: 4, Notice: told.add})
			if c := claim(t, e, "lamp second"); !c.Present || len(c.Session.Subscriptions) != 2 || len(c.Session.Window) != 2 {
				t.Errorf("%+v", c)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if damage := told.of(Damaged); len(damage) > 0 {
				t.Errorf("%+v", damage)
			}
		})
	}
}
