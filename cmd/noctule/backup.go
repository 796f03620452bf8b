// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/store"
)

func init() { verbs = append(verbs, backupCommand, restoreCommand) }

func backupCommand() *cobra.Command {
	place := dataPlace{code: exitFailed}
	force := false
	cmd := &cobra.Command{
		Use:   "backup [flags] FILE",
		Short: "Write everything that is kept to one file, while the broker runs or not",
		Long: `Write a backup: sessions with their subscriptions, queued messages, retained messages, wills, as they were at one instant.
A broker that runs goes on meanwhile, and everything that it acknowledged before is in the backup. Without flags the
configured data directory is taken; if a broker has it open, that broker is asked, by its admin server.

FILE gets its name when the backup was read again and is whole; until then it is FILE.partial. It is compressed, and may be
read by its owner only: it has the messages in the clear. The name - is standard output; then the reading is up to you
("noctule restore --check").

Exit codes: 0 the backup is made, 1 it is not, 2 the command line is wrong.`,
		Example: `  noctule backup /backup/noctule-monday
  noctule backup --data /var/lib/noctule /backup/noctule-monday
  noctule backup - | ssh elsewhere 'cat > noctule-monday'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			b := backupFile{name: args[0], force: force, words: cmd.ErrOrStderr(), progress: progress(cmd.ErrOrStderr())}
			return place.choose(cmd,
				func(dir string) error {
					return b.write(func(w io.Writer) error {
						_, err := store.BackupFolder(ctx, dir, w, store.BackupOptions{Program: "noctule " + version().Version})
						return err
					})
				},
				func(a adminServer) error {
					return b.write(func(w io.Writer) error {
						body, err := a.get(ctx, "/api/v1/backup")
						if err != nil {
							return err
						}
						defer body.Close()
						if _, err = io.Copy(w, body); err != nil {
							return fmt.Errorf("the broker broke the backup off: %w; its log says why", err)
						}
						return nil
					})
				})
		},
	}
	place.add(cmd)
	place.addAdmin(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "replace FILE if it is there")
	return cmd
}

// backupFile is a file that gets its name when it is whole.
type backupFile struct {
	name     string
	force    bool
	words    io.Writer
	progress *progressWords
}

// write has the file written, reads it again, and names it. What was begun and not ended is removed.
func (b *backupFile) write(from func(io.Writer) error) error {
	if b.name == "-" {
		err := from(b.counted(os.Stdout))
		b.progress.end()
		return err
	}
	if _, err := os.Lstat(b.name); err == nil && !b.force {
		return fmt.Errorf("%s is there already; choose another name, or --force", b.name)
	}
	partial := b.name + ".partial"
	f, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	info, err := b.fill(f, from)
	b.progress.end()
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(partial, b.name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	if err := syncFolder(filepath.Dir(b.name)); err != nil {
		return err
	}
	fmt.Fprintf(b.words, "%s is a backup of position %d: %d rows, %s\n", b.name, info.Position, info.Rows, sizeText(int64(info.Bytes)))
	return nil
}

// fill writes the file, syncs it, and reads it again.
func (b *backupFile) fill(f *os.File, from func(io.Writer) error) (info store.BackupInfo, err error) {
	if err := f.Chmod(0o600); err != nil { // it may have been there, with other rights
		return info, err
	}
	if err := from(b.counted(f)); err != nil {
		return info, err
	}
	if err := f.Sync(); err != nil {
		return info, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return info, err
	}
	return store.CheckBackup(f, func(i store.BackupInfo) { b.progress.tell(int64(i.Bytes), "read again") })
}

// counted is a writer that tells its progress.
func (b *backupFile) counted(w io.Writer) io.Writer {
	return &countedWriter{w: w, progress: b.progress}
}

type countedWriter struct {
	w        io.Writer
	n        int64
	progress *progressWords
}

func (c *countedWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.progress.tell(c.n, "written")
	return n, err
}

// syncFolder makes a file's name safe. Where folders cannot be synced there is nothing to do.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

func restoreCommand() *cobra.Command {
	place := dataPlace{code: exitFailed}
	var o store.RestoreOptions
	check := false
	cmd := &cobra.Command{
		Use:   "restore [flags] FILE",
		Short: "Make a data directory of a backup",
		Long: `Make a data directory of a backup: all that was kept when it was made is there again, and nothing that came later. The directory
has to be absent or empty; --force moves what is in it aside, into a directory in it named before-restore-TIME. Nothing is
ever deleted.

The backup is read to its end, and what was made of it is read again, before it takes its place. A backup that is cut short or
damaged changes nothing. The name - is standard input.

Exit codes: 0 it is restored (with --check: the backup is whole), 1 it is not, 2 the command line is wrong.`,
		Example: `  noctule restore --data /var/lib/noctule /backup/noctule-monday
  noctule restore --check /backup/noctule-monday`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := os.Stdin
			if args[0] != "-" {
				var err error
				if f, err = os.Open(args[0]); err != nil {
					return &exit{exitFailed, err}
				}
				defer f.Close()
			}
			p := progress(cmd.ErrOrStderr())
			o.Progress = func(i store.BackupInfo) { p.tell(int64(i.Bytes), "read") }
			if check {
				info, err := store.CheckBackup(f, o.Progress)
				p.end()
				if err != nil {
					return &exit{exitFailed, fmt.Errorf("%s: %w", args[0], err)}
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is whole: made %s by %s, position %d, %d rows, %s\n", args[0],
					time.Unix(0, info.Created).UTC().Format(time.RFC3339), info.Program, info.Position, info.Rows, sizeText(int64(info.Bytes)))
				return nil
			}
			dir, err := place.dir(cmd)
			if err != nil {
				return err
			}
			r, err := store.Restore(f, dir, o)
			p.end()
			if err != nil {
				return &exit{exitFailed, restoreAdvice(err)}
			}
			restoreWords(cmd.ErrOrStderr(), dir, &r)
			return nil
		},
	}
	place.add(cmd)
	cmd.Flags().BoolVar(&o.Force, "force", false, "move aside what is in the directory")
	cmd.Flags().BoolVar(&check, "check", false, "only read FILE to its end, and say whether it is whole")
	cmd.MarkFlagsMutuallyExclusive("check", "force")
	cmd.MarkFlagsMutuallyExclusive("check", "data")
	return cmd
}

func restoreAdvice(err error) error {
	if errors.Is(err, store.ErrNotEmpty) {
		return fmt.Errorf("%w; name another directory, or move aside what is there with --force", err)
	}
	return whatToDo(err, "stop it first")
}

func restoreWords(w io.Writer, dir string, r *store.RestoreReport) {
	c := &r.Contents
	fmt.Fprintf(w, "%s is what it was at %s, position %d: %d sessions, %d messages, %d retained\n", dir,
		time.Unix(0, r.Backup.Created).UTC().Format(time.RFC3339), r.Backup.Position, c.Sessions, c.Messages, c.Retained)
	if r.Moved != "" {
		fmt.Fprintf(w, "what was there before is in %s\n", filepath.Join(dir, r.Moved))
	}
}
