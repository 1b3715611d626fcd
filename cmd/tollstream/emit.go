package main

import (
	"errors"

	"github.com/urfave/cli/v2"
)

func (a *app) emitCommand() *cli.Command {
	return &cli.Command{
		Name:  "emit",
		Usage: "sends simulated events, or those of a file",
		Flags: append([]cli.Flag{
			&cli.Int64Flag{Name: "count", Usage: "stop after `N` events"},
		}, connectionFlags()...),
		UsageText: "tollstream emit --rate 100",
		Action: func(c *cli.Context) error {
			if _, err := connectionFrom(c); err != nil {
				return err
			}
			return errors.New("emit: not yet")
		},
	}
}
