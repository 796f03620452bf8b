// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func note(j *Journal, cause, client, name string) {
	j.Note(cause, func() Drop { return Drop{Client: client, Topic: name, Size: 1} })
}

// all adds up what a list of drops stands for.
func all(drops []Drop) (n int64) {
	for _, d := range drops {
		n += max(1, d.Count)
	}
	return n
}

func TestJournalKeepsTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := New(Options{})
		for i := range Most + 5 {
			note(j, "queue_full", "c", fmt.Sprint(i))
			time.Sleep(2 * time.Millisecond) // below the rate
		}
		got := j.Drops(Query{})
		if len(got) != Most || got[0].Topic != "5" || got[Most-1].Topic != fmt.Sprint(Most+4) {
			t.Errorf("got %d, from %s to %s", len(got), got[0].Topic, got[len(got)-1].Topic)
		}
		for i := 1; i < len(got); i++ {
			if got[i].Seq != got[i-1].Seq+1 {
				t.Fatalf("%d follows %d", got[i].Seq, got[i-1].Seq)
			}
		}
	})
}

func TestJournalCountsWhatIsTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := New(Options{})
		described := 0
		for i := range 5000 {
			cause := "queue_full"
			if i%5 == 0 {
				cause = "receiver_slow"
			}
			j.Note(cause, func() Drop { described++; return Drop{Topic: "t"} })
		}
		if described != MostPerSecond {
			t.Errorf("%d were described, want %d", described, MostPerSecond)
		}
		time.Sleep(time.Second)
		got := j.Drops(Query{})
		if len(got) != MostPerSecond+2 || all(got) != 5000 {
			t.Fatalf("got %d entries for %d drops", len(got), all(got))
		}
		if d := got[len(got)-1]; d.Cause != "receiver_slow" || d.Count != 800 {
			t.Errorf("got %+v", d)
		}
		note(j, "queue_full", "c", "t")
		if got := j.Drops(Query{}); all(got) != 5001 {
			t.Errorf("got %d drops after another second", all(got))
		}
	})
}

func TestQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := New(Options{})
		note(j, "queue_full", "a", "x/1")
		time.Sleep(time.Second)
		since := time.Now()
		note(j, "queue_full", "b", "x/2")
		note(j, "message_expired", "a", "y")
		for _, c := range []struct {
			q    Query
			want string
		}{
			{Query{}, "x/1 x/2 y"}, {Query{Client: "a"}, "x/1 y"}, {Query{Topic: "x/+"}, "x/1 x/2"}, {Query{Cause: "message_expired"}, "y"},
			{Query{Since: since}, "x/2 y"}, {Query{After: 2}, "y"}, {Query{Limit: 2}, "x/2 y"}, {Query{Client: "c"}, ""},
			{Query{Client: "a", Topic: "#", Limit: 1}, "y"},
		} {
			var names []string
			for _, d := range j.Drops(c.q) {
				names = append(names, d.Topic)
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("%+v: got %s, want %s", c.q, got, c.want)
			}
		}
	})
}

func TestFileKeepsWhatWasNoted(t *testing.T) {
	dir := t.TempDir()
	for round := range 2 { // a journal goes on where the one before has ended
		j := New(Options{Dir: dir})
		for range 1500 {
			note(j, "queue_full", fmt.Sprint("c", round), "t")
		}
		j.Close()
		if round == 0 { // as a crash leaves it
			f, err := os.OpenFile(filepath.Join(dir, FileName), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			f.WriteString(`{"seq":12,"ti`)
			f.Close()
		}
	}
	got, err := Read(dir, Query{})
	if err != nil || all(got) != 3000 {
		t.Fatalf("got %d drops, %v, want 3000", all(got), err)
	}
	if got, _ := Read(dir, Query{Client: "c1", Limit: 3}); len(got) != 3 || got[0].Client != "c1" {
		t.Errorf("got %+v", got)
	}
	info, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info.Mode(), err)
	}
}

func TestFileIsRotated(t *testing.T) {
	dir := t.TempDir()
	f := &file{dir: dir}
	line := append([]byte(strings.Repeat("x", 1<<20-1)), '\n')
	for range 9 {
		if err := f.append(line); err != nil {
			t.Fatal(err)
		}
	}
	f.f.Close()
	for name, want := range map[string]int64{FileName: 1 << 20, OldFileName: 4 << 20} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() != want {
			t.Errorf("%s: got %d bytes, %v, want %d", name, info.Size(), err, want)
		}
	}
}

func TestFileThatCannotBeWrittenIsMadeUpFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	f := &file{dir: dir, log: slog.New(slog.DiscardHandler)}
	f.waiting = []Drop{{Cause: "a"}, {Cause: "b", Count: 5}}
	f.write()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f.waiting = []Drop{{Cause: "c"}}
	f.write()
	f.f.Close()
	got, err := Read(dir, Query{})
	if err != nil || len(got) != 2 || got[0].Cause != NotWritten || got[0].Count != 6 || got[1].Cause != "c" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestReadOfNothing(t *testing.T) {
	if got, err := Read(t.TempDir(), Query{}); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := Read(filepath.Join(t.TempDir(), "no"), Query{}); err == nil {
		t.Error("a folder that is not there was read")
	}
}
