// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"io"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"testing"
	"testing/fstest"
)

func TestAvailableMemory(t *testing.T) {
	const machine = "MemTotal:        1000000 kB\nMemFree: 5 kB\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
		from  string
	}{
		"nothing known": {nil, 0, "nobody"},
		"machine":       {map[string]string{"proc/meminfo": machine}, 1_024_000_000, "machine"},
		"version 2": {map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "5000000\n",
			"sys/fs/cgroup/a/memory.max": "max\n"}, 5_000_000, "cgroup"},
		"a group around it": {map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n",
			"sys/fs/cgroup/a/memory.max": "4000000\n"}, 4_000_000, "cgroup"},
		"container": {map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/elsewhere/x\n", "sys/fs/cgroup/memory.max": "3000000\n"}, 3_000_000, "cgroup"},
		"unlimited": {map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 1_024_000_000, "machine"},
		"version 1": {map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/y\n",
			"sys/fs/cgroup/memory/y/memory.limit_in_bytes": "2000000\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 2_000_000, "cgroup"},
		"more than the machine": {map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "9000000000\n"}, 1_024_000_000, "machine"},
		"nonsense":              {map[string]string{"proc/meminfo": "MemTotal:\nMemTotal: x kB", "proc/self/cgroup": "::\n0:\nx"}, 0, "nobody"},
	} {
		files := fstest.MapFS{}
		for path, text := range c.files {
			files[path] = &fstest.MapFile{Data: []byte(text)}
		}
		if got, from := available(files); got != c.want || from != c.from {
			t.Errorf("%s: got %d from %s, want %d from %s", name, got, from, c.want, c.from)
		}
	}
}

func TestGovernorSetsTheRuntimesLimit(t *testing.T) {
	if _, set := os.LookupEnv("GOMEMLIMIT"); set {
		t.Skip("GOMEMLIMIT is set")
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	var g governor
	g.set("1000MiB", log)
	if soft := debug.SetMemoryLimit(-1); soft != 800<<20 {
		t.Errorf("the runtime's limit is %d", soft)
	}
	if used, limit := g.usage(); used < 1<<20 || used > 1<<40 || limit != 1000<<20 {
		t.Errorf("used %d of %d", used, limit)
	}
	g.set("off", log)
	if _, limit := g.usage(); limit != 0 || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Error("off is a limit")
	}
	all, _ := available(os.DirFS("/"))
	g.set("auto", log)
	if _, limit := g.usage(); limit != int64(float64(all)*0.7) {
		t.Errorf("auto is %d of %d", limit, all)
	}
}
