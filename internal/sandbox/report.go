package sandbox

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/tollstream/tollstream/internal/command"
	"github.com/tollstream/tollstream/internal/endpoint"
	"github.com/tollstream/tollstream/internal/text"
)

// Report is how to reach the servers, and whether the data outlives them.
type Report struct {
	Brokers    string `json:"brokers"`
	MySQL      string `json:"mysql"` // the DSN
	Database   string `json:"database"`
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Data       string `json:"data"`
	KeepsRows  bool   `json:"keeps_rows"`
}

// Report returns the sandbox's report.
func (s *Sandbox) Report() Report {
	con := s.Connection()
	return Report{
		Brokers: s.Broker.Addr(), MySQL: con.DSN, Database: s.Database.Engine(),
		Topic: con.Topic, Partitions: s.Partitions, Data: s.cfg.DataDir, KeepsRows: s.keeps(),
	}
}

// Write prints how to reach the servers, and what to do next.
func (s *Sandbox) Write(w io.Writer) error {
	con := s.Connection()
	cfg, err := mysql.ParseDSN(con.DSN)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Kafka  %-21s  topic %s, %s\n", s.Broker.Addr(), con.Topic,
		text.Count(s.Partitions, "partition"))
	fmt.Fprintf(&b, "MySQL  %-21s  database %s, user %s, password %s\n", cfg.Addr, cfg.DBName,
		cfg.User, cfg.Passwd)
	folder := "in no folder (--data names one)"
	if s.cfg.DataDir != "" {
		folder = text.Escape(s.cfg.DataDir)
	}
	fmt.Fprintf(&b, "Data   %s: %s\n", folder, s.afterwards())
	if s.InMemory() {
		b.WriteString(
			"\nNo MariaDB is installed here, so the database is one in memory: slower, and its rows are " +
				"deleted at the end.\n")
	}
	b.WriteString("\nNext, each in a terminal of its own:\n\n")
	for _, line := range s.exports() {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	b.WriteString(
		"  tollstream process\n  tollstream emit\n  tollstream view --watch\n\nCtrl-C stops both " +
			"servers.\n")
	_, err = io.WriteString(w, b.String())
	return err
}

// afterwards describes what is kept of the data at the end.
func (s *Sandbox) afterwards() string {
	switch {
	case s.cfg.DataDir == "":
		return "topics and rows are deleted at the end"
	case s.keeps():
		return "topics and rows are kept for the next start"
	}
	return "topics are kept for the next start, rows are not; process then stores the events again"
}

// exports returns the shell lines without which the other commands would look elsewhere.
func (s *Sandbox) exports() []string {
	con := s.Connection()
	var lines []string
	for _, v := range []struct{ name, fallback, value string }{
		{"brokers", endpoint.DefaultBrokers, s.Broker.Addr()},
		{"mysql", endpoint.DefaultMySQL, con.DSN},
		{"topic", endpoint.DefaultTopic, con.Topic},
		{"group", endpoint.DefaultGroup, con.Group},
		{"timezone", endpoint.DefaultTimezone, con.Location.String()},
	} {
		variable := command.Env(v.name)[0]
		now := strings.TrimSpace(os.Getenv(variable))
		if now == "" {
			now = v.fallback
		}
		if now != v.value {
			lines = append(lines, fmt.Sprintf("export %s='%s'", variable, v.value))
		}
	}
	return lines
}
