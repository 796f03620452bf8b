// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/server"
	"github.com/noctule/noctule/server/config"
)

func init() { verbs = append(verbs, validateCommand) }

func validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a configuration file",
		Long: `Check a configuration file as "noctule run" would: every option, the options of plug-ins, whether the certificates
can be used, and whether strangers could come in. The environment counts as it does there. Nothing is started.

Each mistake is printed with its file, line and column, and with what to write instead.

Exit codes: 0 it is right, 1 it has mistakes, 2 the command line is wrong.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := config.Load(config.Input{File: args[0], Environ: os.Environ()})
			if err == nil {
				err = server.Check(c)
			}
			if err != nil {
				return failed(err)
			}
			for _, warning := range c.Warnings() {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", warning)
			}
			fmt.Fprintln(cmd.OutOrStdout(), args[0]+" is right")
			return nil
		},
	}
}
