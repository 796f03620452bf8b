// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds = flag.Int("seeds", 20, "how many seeds are played")
	first = flag.Uint64("first", 0, "the first of them")
	seed  = flag.Int64("seed", -1, "play this one only")
	trace = flag.String("trace", "", "write what happened in a seed that breaks something to a file of this folder")
)

// hung is how long a simulation may take, in real time.
const hung = time.Minute

// play plays a seed in a bubble of its own.
func play(t *testing.T, o Options) (out *Outcome, err error) {
	dog := time.AfterFunc(hung, func() {
		stacks := make([]byte, 4<<20)
		panic(fmt.Sprintf("seed %d makes no progress:\n%s", o.Seed, stacks[:runtime.Stack(stacks, true)]))
	})
	defer dog.Stop()
	synctest.Test(t, func(t *testing.T) { out, err = Run(t.Context(), o) })
	return out, err
}

// Whatever the disk and the network do, what was acknowledged holds.
func TestWholeBrokerUnderFaults(t *testing.T) {
	from, n := *first, *seeds
	if testing.Short() {
		n = min(n, 4)
	}
	if *seed >= 0 {
		from, n = uint64(*seed), 1
	}
	var tally struct {
		sync.Mutex
		faults map[string]int
	}
	tally.faults = map[string]int{}
	t.Cleanup(func() {
		t.Logf("faults: %v", tally.faults)
		for _, fault := range []string{"killed", "power cut", "failed sync", "stopped", "ended within a change", "cut while opening", "full disk",
			"slow sync", "broken connection"} {
			if n >= 20 && tally.faults[fault] == 0 {
				t.Errorf("in none of %d seeds: %s", n, fault)
			}
		}
	})
	for i := range n {
		o := Options{Seed: from + uint64(i)}
		t.Run(fmt.Sprint("seed=", o.Seed), func(t *testing.T) {
			t.Parallel()
			if *trace != "" {
				name := filepath.Join(*trace, fmt.Sprintf("seed-%d.log", o.Seed))
				f, err := os.Create(name)
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if f.Close(); !t.Failed() {
						os.Remove(name)
					}
				}()
				o.Trace = f
			}
			out, err := play(t, o)
			for fault, n := range out.Faults {
				tally.Lock()
				tally.faults[fault] += n
				tally.Unlock()
			}
			if err == nil && out.Kept {
				t.Logf("%.0f s, %d lives, %+v", out.Seconds, out.Kills, out.Totals)
				return
			}
			var text bytes.Buffer
			if out.Report != nil {
				out.Write(&text)
			}
			t.Errorf("seed %d: %v\n%sagain: go test ./internal/sim -run Faults -seed %[1]d", o.Seed, err, &text)
		})
	}
}

// On a disk that forgets, the same must fail, or it would prove nothing.
func TestForgetfulDiskIsCaught(t *testing.T) {
	for seed := range uint64(5) {
		out, err := play(t, Options{Seed: seed, Forgetful: true})
		if out.Report == nil || out.Kept {
			t.Logf("seed %d: %v", seed, err)
			continue
		}
		for _, r := range out.Results {
			if r.Violations > 0 {
				t.Logf("seed %d: %s: %d violations, %v", seed, r.Promise, r.Violations, strings.TrimSpace(fmt.Sprint(r.Examples[0])))
			}
		}
		return
	}
	t.Fatal("nothing was missed without a single sync")
}
