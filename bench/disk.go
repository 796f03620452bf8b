// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tmpfs is a file system that is no disk.
const tmpfs = "tmpfs"

// fileSystems are names of file systems by their magic numbers (statfs(2)).
var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: tmpfs,
	unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.F2FS_SUPER_MAGIC: "f2fs",
}

// fileSystem names the file system of a directory.
func fileSystem(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if name, ok := fileSystems[st.Type]; ok {
		return name, nil
	}
	return fmt.Sprintf("file system %#x", st.Type), nil
}

// dataDir makes a directory for all files of the brokers in parent, or if that is empty where temporary files go, but on a disk.
func dataDir(parent string) (string, error) {
	if parent == "" {
		parent = os.TempDir()
		kind, err := fileSystem(parent)
		if err != nil {
			return "", err
		}
		if kind == tmpfs {
			parent = "/var/tmp"
		}
	}
	return os.MkdirTemp(parent, "bench")
}

// describeDisk tells the file system of dir and what fdatasync costs there.
func describeDisk(dir string) (string, error) {
	const times = 200
	kind, err := fileSystem(dir)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, "probe")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	took := make([]time.Duration, times)
	block := make([]byte, 4096)
	for i := range took {
		if _, err := f.Write(block); err != nil {
			return "", err
		}
		begun := time.Now()
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return "", err
		}
		took[i] = time.Since(begun)
	}
	slices.Sort(took)
	return fmt.Sprintf("%s, fdatasync after each of %d appended blocks of 4 KiB takes %v in the median, %v at most", kind, times,
		took[times/2].Round(time.Microsecond), took[times-1].Round(time.Microsecond)), nil
}

// bytesOf is the length of all files below a directory. Files that vanish meanwhile do not count.
func bytesOf(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				n += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return n, err
}

// traced is a program under strace, which writes each synchronisation of a file to trace. The program keeps its process
// identifier, and the other system calls are hardly slower.
func traced(trace, binary string, args []string) (string, []string) {
	return "strace", append([]string{"-D", "-f", "-ttt", "--seccomp-bpf", "-e", "trace=fsync,fdatasync,msync,sync_file_range,syncfs,sync",
		"-e", "signal=none", "-o", trace, binary}, args...)
}

// syncsIn counts the synchronisations in a trace that began between two moments.
func syncsIn(trace string, from, to time.Time) (n int, err error) {
	f, err := os.Open(trace)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text()) // thread, time, call
		if len(words) < 3 || strings.HasPrefix(words[2], "<") || !strings.Contains(words[2], "sync") {
			continue // the second half of a call, or the end of a thread
		}
		seconds, err := strconv.ParseFloat(words[1], 64)
		if err != nil {
			return 0, fmt.Errorf("trace: %w", err)
		}
		if at := time.Unix(0, int64(seconds*float64(time.Second))); at.After(from) && at.Before(to) {
			n++
		}
	}
	return n, lines.Err()
}
