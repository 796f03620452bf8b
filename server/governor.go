// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/noctule/noctule/server/config"
)

// A governor keeps the process within one number of bytes, memory.limit. From four fifths of it on the runtime collects garbage as often
// as it takes to stay below; what lives and grows on is the broker's to stop, which asks for the usage and refuses more and more (see
// broker.Options.Memory). What counts is what the runtime has from the system: heap, stacks and its own tables.
type governor struct {
	limit atomic.Int64 // bytes; 0 = none
	env   bool         // GOMEMLIMIT is set: the runtime's own limit is the user's
}

// softPercent of the limit is where the runtime begins to work for it. It lies below the broker's marks: what is above it lives.
const softPercent = 80

// set puts a limit in force: a size, a share of what the process may use, "auto" or "off".
func (g *governor) set(text string, log *slog.Logger) {
	m, err := config.ParseMemory(text)
	if err != nil { // checked when it was read
		m = config.Memory{Share: config.AutoShare}
	}
	_, g.env = os.LookupEnv("GOMEMLIMIT")
	limit, from := m.Bytes, "configuration"
	if m.Share > 0 {
		var all int64
		all, from = available(os.DirFS("/"))
		limit = int64(float64(all) * m.Share)
		if soft := debug.SetMemoryLimit(-1); g.env && text == "auto" && soft < math.MaxInt64 {
			limit, from = soft, "GOMEMLIMIT"
		}
	}
	if was := g.limit.Swap(limit); was == limit {
		return
	}
	if !g.env {
		soft := int64(math.MaxInt64)
		if limit > 0 {
			soft = limit / 100 * softPercent
		}
		debug.SetMemoryLimit(soft)
	}
	log.Info("memory limit", "limit", config.FormatSize(limit), "from", from)
}

// usage is for broker.Options.Memory.
func (g *governor) usage() (used, limit int64) {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64()), g.limit.Load()
}

// available is how much memory the process may use, and who says so: the least of its control group, the groups around it, and the
// machine. 0 where nobody says (not Linux).
func available(root fs.FS) (int64, string) {
	best, from := int64(0), "nobody"
	least := func(n int64, who string) {
		if n > 0 && (best == 0 || n < best) {
			best, from = n, who
		}
	}
	if text, err := fs.ReadFile(root, "proc/meminfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
				least(parseBytes(f[1])*1024, "machine")
			}
		}
	}
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return best, from
	}
	for line := range strings.Lines(string(groups)) { // hierarchy:controllers:path
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) < 3:
		case f[1] == "": // version 2
			least(groupLimit(root, "sys/fs/cgroup", f[2], "memory.max"), "cgroup")
		case strings.Contains(","+f[1]+",", ",memory,"):
			least(groupLimit(root, "sys/fs/cgroup/memory", f[2], "memory.limit_in_bytes"), "cgroup")
		}
	}
	return best, from
}

// groupLimit is the least limit of a control group and those around it. In a container the path may not be there; its root then is.
func groupLimit(root fs.FS, mount, group, file string) int64 {
	best := int64(0)
	for p := path.Clean("/" + group); ; p = path.Dir(p) {
		if text, err := fs.ReadFile(root, path.Join(mount, p, file)); err == nil {
			if n := parseBytes(strings.TrimSpace(string(text))); n > 0 && (best == 0 || n < best) {
				best = n
			}
		}
		if p == "/" {
			return best
		}
	}
}

// parseBytes reads a number; 0 where there is none, as for "max", or where it is one that nobody has.
func parseBytes(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n >= 1<<50 {
		return 0
	}
	return n
}
