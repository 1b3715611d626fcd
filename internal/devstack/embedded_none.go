//go:build noembedded

package devstack

import (
	"context"
	"errors"
)

func startEmbedded(context.Context, DatabaseConfig) (engine, error) {
	return nil,
		errors.New(
			"this build leaves out the embedded database (build tag noembedded), and there is no mariadbd or mysqld: " +
				"install mariadb-server, or name a server with --mysql")
}
