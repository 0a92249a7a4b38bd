"""A database of Supabase's shape: its own schemas cannot be read, and what refers to them works on the copy all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lockstep.postgres.throwaway import ThrowawayServer
from tests.integration.backup.store import Store
from tests.integration.rehearsal.stages import staged, tried
from tests.project import Project

#: As a project comes, as far as it matters here; `postgres` is no superuser.
ROLES = """
CREATE ROLE supabase_auth_admin NOINHERIT CREATEROLE LOGIN NOREPLICATION;
CREATE ROLE supabase_storage_admin NOINHERIT CREATEROLE LOGIN NOREPLICATION;
CREATE ROLE postgres LOGIN CREATEROLE CREATEDB BYPASSRLS PASSWORD 'pw';
CREATE ROLE anon NOLOGIN NOINHERIT;
CREATE ROLE authenticated NOLOGIN NOINHERIT;
CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
CREATE ROLE authenticator LOGIN NOINHERIT;
GRANT anon, authenticated, service_role TO authenticator;
GRANT anon, authenticated, service_role TO postgres;
GRANT pg_read_all_data TO postgres;
"""
SERVICE = """
CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
CREATE TYPE auth.aal_level AS ENUM ('aal1', 'aal2');
CREATE TABLE auth.users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email varchar(255) UNIQUE, level auth.aal_level,
    raw_user_meta_data jsonb, is_sso_user boolean NOT NULL DEFAULT false, phone text NOT NULL DEFAULT ''
);
ALTER TABLE auth.users OWNER TO supabase_auth_admin;
ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS
    $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub' $$;
"""
SERVICE = SERVICE.replace("->> 'sub' $$", "->> 'sub' $$").replace(
    "SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'",
    "SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid",
)
SERVICE += """
CREATE FUNCTION auth.odd(level auth.aal_level) RETURNS boolean LANGUAGE sql AS 'SELECT true';
GRANT USAGE ON SCHEMA auth TO postgres, anon, authenticated, service_role;
GRANT REFERENCES, TRIGGER ON auth.users TO postgres;
CREATE SCHEMA storage AUTHORIZATION supabase_storage_admin;
CREATE TABLE storage.objects (id uuid PRIMARY KEY, bucket_id text, name text, owner uuid);
ALTER TABLE storage.objects OWNER TO supabase_storage_admin;
ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION storage.foldername(name text) RETURNS text[] LANGUAGE sql AS 'SELECT string_to_array(name, ''/'')';
GRANT USAGE ON SCHEMA storage TO postgres, authenticated;
CREATE POLICY own_folder ON storage.objects FOR SELECT TO authenticated USING ((storage.foldername(name))[1] = (auth.uid())::text);
INSERT INTO auth.users (id, email) SELECT gen_random_uuid(), g || '@example.com' FROM generate_series(1, 50) g;
"""
APP = """
CREATE TABLE public.profiles (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, name text);
INSERT INTO public.profiles SELECT id, email FROM auth.users LIMIT 40;
CREATE TABLE public.notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner uuid DEFAULT auth.uid(),
    CONSTRAINT notes_owner FOREIGN KEY (owner) REFERENCES auth.users (id), body text);
INSERT INTO public.notes (owner, body) SELECT id, 'x' FROM public.profiles LIMIT 10;
COMMENT ON CONSTRAINT notes_owner ON public.notes IS 'whose';
ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.notes TO authenticated USING (owner = auth.uid()) WITH CHECK (owner = auth.uid());
GRANT ALL ON public.notes, public.profiles TO authenticated;
CREATE VIEW public.emails AS SELECT p.id, u.email FROM public.profiles p JOIN auth.users u USING (id);
CREATE FUNCTION public.handle_new_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN INSERT INTO public.profiles (id) VALUES (NEW.id); RETURN NEW; END $$;
CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.handle_new_user();
ALTER TABLE public.profiles OWNER TO postgres;
ALTER TABLE public.notes OWNER TO postgres;
ALTER VIEW public.emails OWNER TO postgres;
ALTER FUNCTION public.handle_new_user() OWNER TO postgres;
"""


@pytest.fixture(scope="module")
def supabase(pg_bin: Path) -> Iterator[ThrowawayServer]:
    with ThrowawayServer(pg_bin, user="supabase_admin") as running:
        with psycopg.connect(running.url(), autocommit=True) as admin:
            admin.execute(ROLES.encode())
            admin.execute("CREATE DATABASE app OWNER postgres")
        with psycopg.connect(running.url("app"), autocommit=True) as admin:
            admin.execute((SERVICE + APP).encode())
            admin.execute("REVOKE pg_read_all_data FROM postgres")
        yield running


@pytest.fixture
def app(supabase: ThrowawayServer, store: Store, tmp_path: Path) -> Project:
    (tmp_path / "migrations").mkdir()
    project = Project(folder=tmp_path, urls={"prod": supabase.url("app", user="postgres", password="pw")})
    project.variables["AWS_EC2_METADATA_DISABLED"] = "true"
    project.toml = f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
    project.configure(prod="protected = true")
    done = project.run("init")
    assert done.code == 0, done.err
    assert project.run("baseline", "prod", "--version", "none").code == 0
    return project


PLAN = """
ALTER TABLE public.notes ADD COLUMN folder text;
CREATE TABLE public.likes (who uuid NOT NULL DEFAULT auth.uid() REFERENCES auth.users (id), note int REFERENCES public.notes);
ALTER TABLE public.likes ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON public.likes TO authenticated USING (who = auth.uid() AND auth.role() = 'authenticated');
GRANT SELECT ON public.likes TO anon, authenticated, service_role;
DROP POLICY own_folder ON storage.objects;
CREATE POLICY own_folder ON storage.objects FOR SELECT TO authenticated USING ((storage.foldername(name))[1] = auth.uid()::text);
DROP TRIGGER on_auth_user_created ON auth.users;
CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.handle_new_user();
"""


def test_a_plan_passes_and_policies_work_though_the_services_schemas_are_not_in_the_backup(app: Project) -> None:
    app.write("001-likes.sql", PLAN)
    with staged(app) as stage:
        assert any("stand-ins here: auth, storage" in note for note in stage.copy.notes), stage.copy.notes
        assert not any("could not be made" in note for note in stage.copy.notes), stage.copy.notes
        clone = stage.clone()
        assert stage.login is not None and stage.login.role == "postgres"
        assert tried(app, clone).error is None
        with psycopg.connect(clone.settings.url(clone.environment).reveal()) as there:  # type: ignore[union-attr]
            assert there.execute("SELECT count(*), count(email) FROM auth.users").fetchone() == (40, 0)
            (owner,) = there.execute("SELECT owner FROM notes LIMIT 1").fetchone() or ("",)
            there.execute("SET LOCAL ROLE authenticated")
            assert there.execute("SELECT count(*) FROM notes").fetchone() == (0,)
            there.execute("SELECT set_config('request.jwt.claims', %s, true)", (f'{{"sub": "{owner}"}}',))
            assert there.execute("SELECT count(*), bool_and(owner = auth.uid()) FROM notes").fetchone() == (1, True)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                there.execute("INSERT INTO notes (owner) SELECT id FROM profiles WHERE id <> auth.uid() LIMIT 1")
        with psycopg.connect(clone.admin) as there:
            comment = "SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 'notes_owner' AND convalidated"
            assert there.execute(comment.encode()).fetchone() == ("whose",)


@pytest.mark.slow
def test_such_a_backup_is_verified_by_restoring_it(app: Project) -> None:
    assert app.run("backup", "prod").code == 0
    done = app.run("backups", "verify")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_a_row_that_refers_to_nobody_is_found(app: Project) -> None:
    app.write("001-a.sql", "UPDATE public.notes SET owner = gen_random_uuid() WHERE id = 1;")
    with staged(app) as stage:
        error = tried(app, stage.clone()).error
    assert error is not None and error.sqlstate == "23503"
