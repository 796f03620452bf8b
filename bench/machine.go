// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// machine is where it was measured.
type machine struct {
	CPU     string
	Cores   int
	Memory  int64 // bytes
	Kernel  string
	Go      string
	MaxProc string // GOMAXPROCS and GOGC of the environment, if set
	Load    string // average at the start
	Disk    string // of the brokers' files
}

func (m machine) String() string {
	s := fmt.Sprintf("%d cores of %s, %d GiB, Linux %s, %s, load average %s at the start", m.Cores, m.CPU, m.Memory>>30, m.Kernel, m.Go, m.Load)
	if m.MaxProc != "" {
		s += ", " + m.MaxProc
	}
	return s + "; brokers' files on " + m.Disk
}

// thisMachine describes this one, as far as it tells.
func thisMachine() machine {
	m := machine{CPU: "unknown make", Cores: runtime.NumCPU(), Go: runtime.Version(), Load: "unknown", Kernel: "unknown"}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(info), "model name\t: "); ok {
			m.CPU, _, _ = strings.Cut(rest, "\n")
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil {
		m.Memory = int64(si.Totalram) * int64(si.Unit)
	}
	if avg, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(avg), " ")
	}
	var set []string
	for _, key := range []string{"GOMAXPROCS", "GOGC", "GOMEMLIMIT"} {
		if v := os.Getenv(key); v != "" {
			set = append(set, key+"="+v)
		}
	}
	m.MaxProc = strings.Join(set, " ")
	return m
}

// ownCPU is the generator's processor time.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0 // it cannot fail for ourselves
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
