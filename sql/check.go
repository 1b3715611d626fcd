package sql

import (
	"context"
	"errors"
	"strings"

	"github.com/tollstream/tollstream/sql/internal/db"
	"github.com/tollstream/tollstream/sql/internal/tables"
	"github.com/tollstream/tollstream/toll"
)

// Check verifies all that a process needs of the database: that it answers, has the right tables,
// and serves id. Where the database does not know the topic's id yet, it is recorded. Each problem
// is a [toll.PermanentError] whose hint names the command that resolves it.
func (s *Store) Check(ctx context.Context, id Identity) (tables.Meta, error) {
	found, err := s.columns(ctx, s.db)
	if err != nil {
		return tables.Meta{}, s.db.Wrap("read the columns of the tables", err)
	}
	if m, err := s.versionOnly(ctx); err == nil {
		// An older or newer version explains other tables and columns better than a list of them does.
		if err := m.CheckVersion(s.db); err != nil {
			return tables.Meta{}, err
		}
	}
	if err := s.checkFound(found); err != nil {
		return tables.Meta{}, err
	}
	if err := s.checkServer(ctx); err != nil {
		return tables.Meta{}, err
	}
	m, err := tables.ReadMeta(ctx, s.db)
	if errors.Is(err, tables.ErrNoMeta) {
		return tables.Meta{}, tables.NotSetUp(s.db, err)
	}
	if err != nil {
		return tables.Meta{}, s.db.Wrap("read toll_meta", err)
	}
	if err := s.checkIdentity(m, id); err != nil && m.Resetting == tables.NotResetting {
		return m, err
	}
	if m.Resetting != tables.NotResetting {
		return m, toll.Permanent("run again: "+m.Resetting.Command(),
			"a reset of %s was interrupted and is not complete", s.db.Address)
	}
	if m.TopicID == "" && id.TopicID != "" {
		if err := s.SetTopicID(ctx, id.TopicID); err != nil {
			return m, err
		}
		m.TopicID = id.TopicID
	}
	return m, nil
}

// checkTables checks the tables as a start does: an error that is permanent names how they differ
// from ours.
func (s *Store) checkTables(ctx context.Context, q db.Reader) error {
	found, err := s.columns(ctx, q)
	if err != nil {
		return s.db.Wrap("read the columns of the tables", err)
	}
	if err := s.checkFound(found); err != nil {
		return err
	}
	return s.checkEngines(ctx, q)
}

// checkFound checks that the tables that were found are all of ours, with our columns.
func (s *Store) checkFound(found map[string][]column) error {
	if missing := missingTables(found); len(missing) > 0 {
		var names []string
		for _, t := range missing {
			names = append(names, t.name)
		}
		return toll.Permanent(
			"run: tollstream init; or a right is missing, since a user without SELECT on tables does not "+
				"see them, see docs/security.md",
			"the database %s lacks %s", s.db.Address, strings.Join(names, ", "))
	}
	return s.checkColumns(found)
}

// versionOnly reads toll_meta's version alone, which every version of the tables has.
func (s *Store) versionOnly(ctx context.Context) (tables.Meta, error) {
	var m tables.Meta
	err := s.db.QueryRowContext(ctx,
		`SELECT schema_version FROM toll_meta WHERE id = 1`).Scan(&m.SchemaVersion)
	return m, err
}
