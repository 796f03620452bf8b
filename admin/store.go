// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/noctule/noctule/store"
)

// ProcessHeader is in every answer about the store: the process id of the broker, as it stands in its data directory too, so that who asks
// knows whose store it is.
const ProcessHeader = "Noctule-Process"

// stallTimeout is how long a reader of a backup may take to make room for more.
const stallTimeout = time.Minute

// inventory says what the store keeps.
func (src Source) inventory(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set(ProcessHeader, strconv.Itoa(os.Getpid()))
	s, ok := src.Broker.Store().(store.Inspector)
	if !ok {
		write(w, http.StatusNotFound, Problem{"this store does not say what it keeps"})
		return
	}
	i, err := s.Inventory()
	if err != nil {
		write(w, http.StatusServiceUnavailable, Problem{err.Error()})
		return
	}
	write(w, http.StatusOK, i)
}

// backup streams a backup of the store. What goes wrong after its beginning cuts the connection off, and the file is none.
func (src Source) backup(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(ProcessHeader, strconv.Itoa(os.Getpid()))
	s, ok := src.Broker.Store().(store.Backuper)
	if !ok {
		write(w, http.StatusNotFound, Problem{store.ErrNoBackup.Error()})
		return
	}
	out := &patientWriter{ResponseWriter: w, control: http.NewResponseController(w)}
	_ = out.control.SetReadDeadline(time.Time{}) // a backup takes longer than a request may; where there is no deadline none is in the way
	_, err := s.Backup(r.Context(), out, store.BackupOptions{Program: "noctule " + src.Version})
	switch {
	case err == nil:
	case out.begun:
		panic(http.ErrAbortHandler) // the one way to tell
	case errors.Is(err, store.ErrNoBackup):
		write(w, http.StatusNotFound, Problem{err.Error()})
	case errors.Is(err, store.ErrBackupRuns):
		write(w, http.StatusConflict, Problem{err.Error()})
	default:
		write(w, http.StatusServiceUnavailable, Problem{err.Error()})
	}
}

// patientWriter is an answer that may take as long as it goes on.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (w *patientWriter) Write(b []byte) (int, error) {
	if !w.begun {
		w.begun = true
		w.Header().Set("Content-Type", "application/zstd")
		w.Header().Set("Content-Disposition", `attachment; filename="noctule.backup"`)
	}
	_ = w.control.SetWriteDeadline(time.Now().Add(stallTimeout)) // only a recorder of tests has none
	return w.ResponseWriter.Write(b)
}
