// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// printHelp prints the flags of a verb.
func (f *clientFlags) printHelp(cmd *cobra.Command) {
	fmt.Fprintf(f.out, "%s.\n\nUsage: %s%s\n\n", cmd.Short, f.program, strings.TrimPrefix(cmd.Use, cmd.Name()))
	for _, flag := range clientFlagTable {
		if strings.IndexByte(flag.verbs, f.verb) < 0 {
			continue
		}
		head := strings.TrimSpace(strings.ReplaceAll(flag.names, " ", ", ") + " " + flag.arg)
		if strings.HasPrefix(head, "--") {
			head = "    " + head
		}
		if len(head) > 28 {
			head += "\n" + strings.Repeat(" ", 30)
		}
		fmt.Fprintf(f.out, "  %-28s %s\n", head, flag.help)
	}
	if f.verb != 'p' {
		io.WriteString(f.out, formatHelp)
	}
	io.WriteString(f.out, clientExitCodes)
}

const formatHelp = `
Output format (-F): text with these parts; json stands for %j.
  %t topic name     %p payload        %x %X payload in hexadecimal     %l payload size
  %q QoS            %r retain flag    %m packet identifier             %% a percent sign
  %C content type   %R response topic %D correlation data              %P user properties
  %E message expiry %F payload format %A topic alias                   %S subscription identifier
  %j JSON           %J JSON, with a payload that is JSON itself        %I date and time
  %U seconds since 1970               @X what %X is to strftime(3)     @N nanoseconds
  \\ \0 \a \e \n \r \t \v             as in C
A width may follow the percent sign: %20t, %-20t, %05l, %.10t.
`

const clientExitCodes = `
Exit codes: 0 done; 1 wrong flags, no connection or another error; 7 the connection was
lost; 27 timed out (-W); the code of the CONNACK if the server refuses the client.
`
