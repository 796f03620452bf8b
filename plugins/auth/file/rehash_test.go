// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/plugins/internal/textfile"
)

// oldFile has users in all kinds of hashes.
func oldFile(t *testing.T) string {
	text := "# people\nold:" + golden[0].hash + "\n new : " + golden[1].hash + "\n" + cheap("now", "x") + "bcrypt:" + golden[3].hash + "\n\n# end\n"
	return fileOf(t, text)
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOldHashesAreReplaced(t *testing.T) {
	path := oldFile(t)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		log := new(strings.Builder)
		a, err := New(Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context(), host{log}); err != nil {
			t.Fatal(err)
		}
		before := read(t, path)
		wantVerdict(t, a, login("old", "wrong"), plugin.Deny)
		wantVerdict(t, a, login("now", "x"), plugin.Allow)
		wantVerdict(t, a, login("bcrypt", "U*U"), plugin.Allow)
		time.Sleep(time.Minute)
		if read(t, path) != before {
			t.Fatal("the file was written without need")
		}
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() { wantVerdict(t, a, login("old", "wonder"), plugin.Allow) })
		}
		all.Wait()
		wantVerdict(t, a, login("new", "builder"), plugin.Allow)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		lines := strings.Split(read(t, path), "\n")
		if len(lines) != 8 || lines[0] != "# people" || !strings.HasPrefix(lines[1], "old:$argon2id$") || !strings.HasPrefix(lines[2], "new:$argon2id$") ||
			lines[3]+"\n" != strings.SplitAfter(before, "\n")[3] || lines[4] != "bcrypt:"+golden[3].hash || lines[6] != "# end" {
			t.Errorf("the file is\n%s", strings.Join(lines, "\n"))
		}
		if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o640 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		u := a.users.Load()
		time.Sleep(3 * textfile.Interval)
		if a.users.Load() != u {
			t.Error("our own change was read again, and who logged in forgotten")
		}
		for name, pw := range map[string]string{"old": "wonder", "new": "builder", "now": "x", "bcrypt": "U*U"} {
			wantVerdict(t, a, login(name, pw), plugin.Allow)
			wantVerdict(t, a, login(name, pw+"x"), plugin.Deny)
		}
		if n := strings.Count(log.String(), "hashed anew"); n != 1 {
			t.Errorf("written %d times: %s", n, log)
		}
		a.Stop(context.Background())
	})
}

// What somebody else does to the file meanwhile stays.
func TestRehashLeavesOthersChanges(t *testing.T) {
	path := oldFile(t)
	synctest.Test(t, func(t *testing.T) {
		a, err := New(Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context(), host{new(strings.Builder)}); err != nil {
			t.Fatal(err)
		}
		wantVerdict(t, a, login("old", "wonder"), plugin.Allow)
		wantVerdict(t, a, login("new", "builder"), plugin.Allow)
		write(t, path, cheap("old", "other")+"new:"+golden[1].hash+"\n"+cheap("third", "3"))
		time.Sleep(20 * time.Second)
		text := read(t, path)
		if !strings.HasPrefix(text, "old:$argon2id$v=19$m=8,") || !strings.Contains(text, "\nnew:$argon2id$v=19$m=19456") || !strings.Contains(text, "third:") {
			t.Errorf("the file is\n%s", text)
		}
		wantVerdict(t, a, login("old", "wonder"), plugin.Deny)
		wantVerdict(t, a, login("old", "other"), plugin.Allow)
		wantVerdict(t, a, login("third", "3"), plugin.Allow)
		wantVerdict(t, a, login("new", "builder"), plugin.Allow)
		a.Stop(context.Background())
	})
}

func TestStopWritesWhatIsDue(t *testing.T) {
	path := oldFile(t)
	a := started(t, Options{Path: path})
	wantVerdict(t, a, login("old", "wonder"), plugin.Allow)
	a.Stop(context.Background())
	if !strings.Contains(read(t, path), "old:$argon2id$") {
		t.Error("it was not written")
	}
}

func TestKeepOldHashes(t *testing.T) {
	path := oldFile(t)
	before := read(t, path)
	a := started(t, Options{Path: path, KeepOldHashes: true})
	wantVerdict(t, a, login("old", "wonder"), plugin.Allow)
	a.Stop(context.Background())
	if read(t, path) != before {
		t.Error("the file was written")
	}
}

// Where the file cannot be written, logins go on, and it is said once.
func TestRehashWithoutRights(t *testing.T) {
	path := oldFile(t)
	synctest.Test(t, func(t *testing.T) {
		log := new(strings.Builder)
		a, err := New(Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context(), host{log}); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path, filepath.Join(filepath.Dir(path), "away")); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			wantVerdict(t, a, login("old", "wonder"), plugin.Allow)
			time.Sleep(2 * time.Minute) // forgotten, so it is hashed again
		}
		synctest.Wait()
		if n := strings.Count(log.String(), "could not be hashed anew"); n != 1 {
			t.Errorf("said %d times: %s", n, log)
		}
		a.Stop(context.Background())
	})
}
