"""The bugs that `tests.mutants` plants: each is one that somebody made, or could make tomorrow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """*right* stands once in *file*; with *wrong* in its place *suite* must turn red."""

    name: str
    file: str
    right: str
    wrong: str
    suite: tuple[str, ...]


SRC = "src/optio_agents/"
SCRIPTS = SRC + "hosts/scripts/"
UNSEEN = "tests/supervision/test_session_unseen.py", "-k"
REQUESTS = "tests/supervision/test_open_requests.py", "-k"

MUTANTS = (
    # What is promised about delivery
    Mutant(
        "handed over before it is recorded",
        SRC + "session/run.py",
        "await self.journal.record(entries, batch.cursor, batch.digests)\n",
        "self.dispatch.hand_over(entries, events, batch.cut)\n"
        "                await self.journal.record(entries, batch.cursor, batch.digests)\n"
        "                continue\n",
        ("tests/testing/test_memory.py",),
    ),
    Mutant(
        "cursor in another transaction than its lines",
        SRC + "store/sqlite_journal.py",
        "            _advance(database, self.session, cursor, digests)\n",
        '            database.execute("COMMIT")\n'
        '            database.execute("BEGIN IMMEDIATE")\n'
        "            _advance(database, self.session, cursor, digests)\n",
        ("tests/store/test_store.py",),
    ),
    Mutant(
        "end of the log is success",
        SRC + "session/run.py",
        "Exited(self._ended) if keywords else Done(None)",
        "Done(None)",
        ("tests/session/test_session.py",),
    ),
    Mutant(
        "a rewrite of the same length goes unseen",
        SRC + "framing/compare.py",
        "seen.size < place.offset or not seen.intact:",
        "seen.size < place.offset:",
        ("tests/framing/test_cursor.py", "tests/hosts/following/test_follow.py"),
    ),
    Mutant(
        "the unterminated last line is lost",
        SRC + "hosts/following/__init__.py",
        "self._final = True\n            self._close()\n",
        "self._final = True\n",
        ("tests/hosts/following/test_follow.py",),
    ),
    Mutant(
        "lines at the front of a replaced log come twice",
        SRC + "framing/framer.py",
        "        if new == old:\n            return len(new) // _SIZE\n",
        "        if new == old:\n            return 0\n",
        ("tests/framing/test_framer.py", "tests/framing/test_cursor.py"),
    ),
    # What we say
    Mutant(
        "a message is fed without its link",
        SRC + "agents/scripts/launcher.sh",
        '      if [ -e "said/$name" ]; then\n',
        "      if false; then\n",
        ("tests/agents/test_agents.py", "tests/agents/test_agents_faults.py"),
    ),
    Mutant(
        "half a message is said",
        SRC + "agents/scripts/session.sh",
        'whole "$1" "$2" || { rm -f "$1"; refuse cut "only a part arrived"; }',
        "true",
        ("tests/agents/test_agents.py", "tests/agents/test_agents_faults.py"),
    ),
    Mutant(
        "the last answer wins",
        SRC + "agents/scripts/answer.sh",
        'if ln "answers/.$5.$$" "$answer" 2>/dev/null; then outcome=won; fi',
        'if ln -f "answers/.$5.$$" "$answer" 2>/dev/null; then outcome=won; fi',
        ("tests/agents/test_agents.py", "tests/agents/test_agents_faults.py"),
    ),
    Mutant(
        "time without a link is time",
        SRC + "hosts/retrying.py",
        'if now == link and now[0] == "up":',
        "if True:",
        ("tests/hosts/files/test_transfers.py",),
    ),
    Mutant(
        "a file that we cannot fetch is answered as if it were the file's fault",
        SRC + "session/deliverables.py",
        "            shared.fail(self._not_fetched(item, error) if ours else error)\n"
        "            return\n",
        "            item.refusal = _OUR_TROUBLE\n",
        ("tests/session/test_session_outage.py",),
    ),
    Mutant(
        "permission time-out ignored",
        SRC + "conversation/approvals.py",
        "await asyncio.wait([asking], timeout=self._timeout)",
        "await asyncio.wait([asking])",
        ("tests/conversation/test_conversation_reader.py",),
    ),
    Mutant(
        "every suggestion is granted",
        SRC + "conversation/claude/stream_json.py",
        'kept = [dict(rule) for rule in permissions if rule.get("destination") == "session"]',
        "kept = [dict(rule) for rule in permissions]",
        ("tests/conversation/test_stream_json.py",),
    ),
    Mutant(
        "a prompt that was blocked is completed",
        SRC + "conversation/claude/turns.py",
        "if calls == 0 and not command:",
        "if False:",
        ("tests/conversation/test_stream_json.py",),
    ),
    Mutant(
        "an answer of an older version is not found",
        SRC + "conversation/contract.py",
        "return (*ours, request_id) if request_id or not ours else ours",
        "return ours or (request_id,)",
        ("tests/conversation/test_machinery.py",),
    ),
    Mutant(
        "the handler goes on asking what was decided",
        SRC + "conversation/approvals.py",
        "if self._deciding.get(request.id) is not asyncio.current_task():",
        "if False:",
        ("tests/conversation/test_machinery.py",),
    ),
    Mutant(
        "what the process took with it is not told",
        SRC + "conversation/machinery.py",
        "            if self._pending:\n",
        "            if False:\n",
        ("tests/conversation/test_machinery.py",),
    ),
    # Processes
    Mutant(
        "no session tag",
        SRC + "agents/scripts/launch.sh",
        'set -- setsid env -i PATH="$PATH" OPTIO_SESSION="$tag" "$@"',
        'set -- setsid env -i PATH="$PATH" "$@"',
        ("tests/agents/test_agents.py", "tests/agents/test_agents_stop.py"),
    ),
    Mutant(
        "a zombie counts as alive",
        SRC + "hosts/following/sent/liveness.py",
        'words[0] not in "ZX" and int(words[19]) == start',
        "int(words[19]) == start",
        ("tests/hosts/following/test_follow.py", "tests/agents/test_agents.py"),
    ),
    Mutant(
        "a pid alone names a process",
        SRC + "agents/scripts/state.sh",
        '[ "${20}" = "$start" ] && [ "$1" != Z ]',
        '[ "$1" != Z ]',
        ("tests/agents/test_agents.py",),
    ),
    Mutant(
        "a lease is claimed over a living owner",
        SRC + "agents/scripts/owner.sh",
        "[ $age -ge 60 ] ||",
        "true ||",
        ("tests/agents/test_agents_owner.py",),
    ),
    # Paths
    Mutant(
        "checked by name, opened afterwards",
        SRC + "hosts/files/scripts/open.sh",
        "real=$(readlink /proc/self/fd/0 && echo .) && real=${real%??}",
        "real=$root/x",
        ("tests/hosts/files/test_confined.py",),
    ),
    Mutant(
        "the root itself may be a link",
        SRC + "hosts/files/scripts/open.sh",
        '    [ ! -L "$2" ] || refuse outside "leads out: $2 is a symbolic link"\n',
        "",
        ("tests/hosts/files/test_confined.py",),
    ),
    # SSH
    Mutant(
        "keepalive off",
        SRC + "hosts/ssh/login.py",
        '"keepalive_interval": config.keepalive,',
        '"keepalive_interval": 0,',
        ("tests/hosts/ssh/test_ssh_link.py",),
    ),
    Mutant(
        "host key unchecked",
        SRC + "hosts/ssh/login.py",
        "        return False\n\n    def _accept(",
        "        return True\n\n    def _accept(",
        ("tests/hosts/ssh/test_ssh_host_keys.py",),
    ),
    Mutant(
        "a revoked key is trusted",
        SRC + "hosts/ssh/known_hosts.py",
        "return (self.keys | self.portless) - self.revoked",
        "return self.keys | self.portless",
        ("tests/hosts/ssh/test_ssh_host_keys.py",),
    ),
    Mutant(
        "a torn link is an exit",
        SRC + "hosts/ssh/process.py",
        "whole = self._code is not None and exc is None and not self._torn()",
        "whole = True",
        ("tests/hosts/ssh/test_ssh_link.py", "tests/hosts/test_machines.py"),
    ),
    # What people see
    Mutant(
        "escape sequences reach the terminal",
        SRC + "display.py",
        "    if not text.isprintable():\n",
        "    if not text:\n",
        ("tests/test_display.py",),
    ),
    Mutant(
        "JSON takes NaN",
        SRC + "protocol/strict_json.py",
        "parse_constant=_refuse",
        "parse_constant=float",
        ("tests/protocol/test_parser.py",),
    ),
    # What cannot be seen, and what others write
    Mutant(
        "what cannot be seen never started",
        SRC + "supervision/way_in.py",
        "if not await never_started(store, stored):",
        "if False:",
        ("tests/supervision/test_session_unseen.py",),
    ),
    Mutant(
        "a directory that is gone proves death",
        SCRIPTS + "workdir.sh",
        '        [ ! "$found" ] ||',
        "        true ||",
        ("tests/supervision/test_session_unseen.py",),
    ),
    Mutant(
        "what a look at its directory meets is the end of a session",
        SRC + "supervision/supervisor.py",
        '                self._leave(agent, "cut off")\n                raise\n',
        "                raise\n",
        (*UNSEEN, "meanwhile_ends_nothing"),
    ),
    Mutant(
        "what a renewal meets is the end of a session",
        SRC + "agents/lease.py",
        "with suppress(OptioAgentsError):  # what is wrong",
        "with suppress(AlreadyOwned):  # what is wrong",
        (*UNSEEN, "renewal"),
    ),
    Mutant(
        "whom a file of the agent's names is stopped",
        SCRIPTS + "stop.sh",
        ' && another "$root" && continue ;; esac',
        " ;; esac",
        (*UNSEEN, "stop_ends_nobody"),
    ),
    Mutant(
        "an agent without a file that names its process has ended",
        SRC + "agents/scripts/state.sh",
        '[ "${1-}" ] || [ -s pid ] || ! carried || break',
        "",
        (*UNSEEN, "nothing_tells_the_process"),
    ),
    Mutant(
        "a file of the agent's proves its death",
        SRC + "agents/scripts/state.sh",
        '[ ! "${1-}" ] && carried',
        '[ ! "${1-}" ] && [ ! -s pid ] && carried',
        (*UNSEEN, "no_living_process"),
    ),
    Mutant(
        "an output that was cut is waited for without end",
        SRC + "conversation/machinery.py",
        "        return self._failed\n",
        "        return self._failed if isinstance(self._failed, AgentUnusable) else None\n",
        (*REQUESTS, "output_is_cut", "-o", "timeout=60"),
    ),
    Mutant(
        "time without a link denies what was asked",
        SRC + "supervision/kinds/conversing.py",
        "left -= 0.0 if self._recording.down else awake",
        "left -= awake",
        (*REQUESTS, "nobody_could_be_asked"),
    ),
    Mutant(
        "what cannot be written down is denied",
        SRC + "supervision/kinds/conversing.py",
        "            self._fail(error)\n            await anyio.sleep_forever()\n"
        "        self._stand()\n",
        "            raise\n        self._stand()\n",
        (*REQUESTS, "denied_by_nobody"),
    ),
    Mutant(
        "a decision that cannot be written down is a denial",
        SRC + "supervision/kinds/conversing.py",
        "                        except StoreError as error:  # it was decided all the same\n"
        "                            self._fail(error)\n",
        "                        except StoreError:\n                            raise\n",
        (*REQUESTS, "no_denial"),
    ),
    Mutant(
        "an answer is given in the words that were shown",
        SRC + "supervision/live.py",
        "    if not secrets:\n        return decision\n",
        "    if not secrets or True:\n        return decision\n",
        (*REQUESTS, "names_a_credential"),
    ),
    Mutant(
        "NaN reaches the journal",
        SRC + "store/sqlite_journal.py",
        "default=str, allow_nan=False)",
        "default=str)",
        ("tests/store/test_store.py", "-k", "no_json_holds"),
    ),
    Mutant(
        "what is written lands where a link leads",
        SRC + "hosts/host.py",
        ".exit_code == LEAVES:",
        ".exit_code == -1:",
        ("tests/hosts/test_workdir.py", "-k", "stays_there"),
    ),
    Mutant(
        "a lock named by anything",
        SRC + "store/lock.py",
        "if not is_session_id(session):\n        raise",
        "if False:\n        raise",
        ("tests/agents/test_host_words.py",),
    ),
    Mutant(
        "an id takes another session over",
        SRC + "supervision/way_in.py",
        "stored = await _apart(self._store, stored_of(host, agent.meta))",
        "stored = stored_of(host, agent.meta)",
        ("tests/agents/test_host_words.py",),
    ),
    # What fails on our side
    Mutant(
        "a callback that raised is a success",
        SRC + "store/records.py",
        'if self.outcome != "done" or self.failures:',
        'if self.outcome != "done":',
        ("tests/session/test_session_truth.py",),
    ),
    Mutant(
        "a callback that was not meant to be awaited is found out in the middle",
        SRC + "session/options.py",
        "_check(name, getattr(self, name), given, is_async=True)",
        "pass",
        ("tests/session/test_session_truth.py",),
    ),
    Mutant(
        "what is no Exception leaves a task as it is",
        SRC + "session/foreign_code.py",
        "    except BaseException as error:\n        raise ForeignExit(error) from error\n"
        "    raise TypeError",
        "    except BaseException:\n        raise\n    raise TypeError",
        ("tests/session/test_session_truth.py",),
    ),
    Mutant(
        "a context that blocks keeps the loop to itself",
        SRC + "session/foreign_code.py",
        "self.rests_until = now + min(now - began, _LONGEST_REST)",
        "self.rests_until = now",
        ("tests/session/test_session_progress.py",),
    ),
    Mutant(
        "after DONE a body that nothing is owed to has its grace all the same",
        SRC + "session/run.py",
        "if self.options.agent is None:\n                    waiting.start_soon(until_answered)",
        "if False:\n                    waiting.start_soon(until_answered)",
        ("tests/session/test_session.py",),
    ),
    # Credentials
    Mutant(
        "what an agent is started with stays open beside it",
        SRC + "agents/scripts/launcher.sh",
        "  { command : >/proc/self/fd/5; } 2>/dev/null",
        "  :",
        ("tests/agents/test_agents.py::test_the_agent_finds_only_what_it_should",),
    ),
    Mutant(
        "the credentials of an agent that has ended are known to nobody",
        SRC + "supervision/credentials.py",
        "_unsealed(agent.meta.get(SEALED), key) if key else {}\n    if not known.keys()",
        "{}\n    if not known.keys()",
        ("tests/supervision/test_supervise.py", "-k", "credential"),
    ),
    Mutant(
        "the key to them outlives the session",
        SRC + "supervision/recording.py",
        "                    await forget_key(self.records)\n",
        "                    pass\n",
        ("tests/supervision/test_supervise.py", "-k", "credential"),
    ),
    Mutant(
        "a piece of a credential at a cut is shown",
        SRC + "display.py",
        "            return self._hide_pieces(text)\n",
        "            return text\n",
        ("tests/test_display.py",),
    ),
    Mutant(
        "a URL with a password is no credential",
        SRC + "hosts/environment.py",
        "return found is not None or bool(passwords_in(value))",
        "return found is not None",
        ("tests/hosts/test_environment.py",),
    ),
    # What an agent replaces by a link
    Mutant(
        "a log is read wherever a link leads",
        SRC + "session/run.py",
        "            root=self.shared.workplace.real,\n",
        "",
        ("tests/session/test_session_deliverables.py", "-k", "becomes_a_link"),
    ),
    Mutant(
        "a root is taken for where it leads by now",
        SRC + "hosts/following/sent/scan.py",
        'path.startswith(root.rstrip(b"/") + b"/")',
        'path.startswith(os.path.realpath(root).rstrip(b"/") + b"/")',
        ("tests/hosts/following/test_follow.py", "-k", "becomes_a_link"),
    ),
    Mutant(
        "a deliverable is fetched from where its directory leads by now",
        SRC + "session/deliverables.py",
        "if fetched.real_path and not fetched.real_path.startswith(where):",
        "if False:",
        ("tests/session/test_session_deliverables.py", "-k", "just_before"),
    ),
    Mutant(
        "a second name of a file elsewhere is handed over",
        SRC + "hosts/files/confined.py",
        "if was.st_nlink > 1:",
        "if False:",
        ("tests/session/test_session_deliverables.py", "-k", "hard"),
    ),
    Mutant(
        "a copy leaves the work directory over a link",
        SRC + "context.py",
        '(await host.run_command(command, cwd="/")).exit_code == LEAVES:',
        "False:",
        ("tests/test_context.py", "-k", "over_a_link"),
    ),
    Mutant(
        "a blob is copied though it is there",
        SRC + "context.py",
        '        return {"expected_sha256": digest.hexdigest()}\n',
        "        return None\n",
        ("tests/session/test_session_foreign.py", "-k", "blob"),
    ),
    Mutant(
        "a message under a uuid is said twice",
        SRC + "conversation/machinery.py",
        "if self._exchange.was_sent(uuid):",
        "if False:",
        ("tests/conversation/test_machinery.py", "-k", "uuid"),
    ),
    Mutant(
        "a plan ends what the tool left in progress",
        SRC + "checklist.py",
        'if tool == "in_progress" and row.status == "completed":',
        "if False:",
        ("tests/family/test_todos.py", "-k", "plan"),
    ),
    Mutant(
        "a line is cut before its credentials are hidden",
        SRC + "session/dispatch.py",
        "hide_each(texts)\n",
        "hide_each(texts := [text[:_KEPT] for text in texts])\n",
        ("tests/supervision/test_supervise.py", "-k", "no_title"),
    ),
    Mutant(
        "an error quotes what the agent wrote to stderr as it is",
        SRC + "session/run.py",
        "stderr = hide(await agent.last_stderr())",
        "stderr = await agent.last_stderr()",
        ("tests/supervision/test_supervise.py", "-k", "no_title"),
    ),
    Mutant(
        "a title is kept as it is",
        SRC + "supervision/way_in.py",
        "title = secrets.hide(title)",
        "title = str(title)",
        ("tests/supervision/test_supervise.py", "-k", "no_title"),
    ),
    Mutant(
        "narration that nobody will see is marked done line by line",
        SRC + "session/dispatch.py",
        "done = self._progress.silent and kind in _REPORTED",
        "done = False",
        ("tests/session/test_session_progress.py", "-k", "nobody_will_see"),
    ),
    # What is promised about DONE
    Mutant(
        "a refusal is said before it is recorded",
        SRC + "session/messages.py",
        "await self._shared.journal.decide(entry, reply)\n        self._refusals = count\n",
        "self._refusals = count\n",
        ("tests/supervision/test_done.py", "-k", "killed"),
    ),
    Mutant(
        "DONE ends a session while its check runs",
        SRC + "session/dispatch.py",
        "            case DoneEvent(summary) if self._check.active:\n",
        "            case DoneEvent(summary) if False:\n",
        ("tests/session/test_session_done.py",),
    ),
    Mutant(
        "a check that raised has accepted",
        SRC + "session/messages.py",
        'return f"it could not be checked, for trouble on our side: {describe(error)}"\n',
        "return None\n",
        ("tests/session/test_session_done.py",),
    ),
    Mutant(
        "a refused DONE counts as the ending for who resumes",
        SRC + "store/sqlite_journal.py",
        " AND r.event=e.number AND r.reply<>?) ORDER BY number LIMIT 1",
        " AND r.event=e.number AND r.reply<>? AND 0) ORDER BY number LIMIT 1",
        ("tests/supervision/test_done.py", "-k", "killed"),
    ),
    Mutant(
        "who resumes a session restarts it as often again",
        SRC + "supervision/limits.py",
        "                        restarts = count\n",
        "                        pass\n",
        ("tests/supervision/test_restart.py",),
    ),
    Mutant(
        "a start that nobody lived to note is another session's",
        SRC + "supervision/way_in.py",
        "                    await forget_start(recording.records)\n",
        "",
        ("tests/supervision/test_restart.py",),
    ),
    Mutant(
        "a limit ends what is done",
        SRC + "session/run.py",
        "        self.decision.decide(self._used_up)\n",
        "        self.decision.verdict = self._used_up\n",
        ("tests/supervision/test_limits.py",),
    ),
    Mutant(
        "who resumes a session counts from nothing",
        SRC + "supervision/supervisor.py",
        "self._restarts = await self._meter.recall(self._recording.records)\n",
        "pass\n",
        ("tests/supervision/test_restart.py", "-k", "killed"),
    ),
    Mutant(
        "one that waits without DONE is at work",
        SRC + "supervision/recording.py",
        "            self._settling = loop.call_at(self._idle_from, self._restate)\n",
        "",
        ("tests/supervision/test_limits.py",),
    ),
    Mutant(
        "who resumes a session forgets its check",
        SRC + "supervision/way_in.py",
        "        return self._options(protocol, facts.rules)\n",
        "        return self._options(protocol, {})\n",
        ("tests/supervision/test_done.py", "-k", "killed"),
    ),
    # What is promised about a team
    Mutant(
        "a child of a team exists twice",
        SRC + "team/kernel.py",
        "        ident = id or secrets.token_hex(6)\n",
        "        ident = secrets.token_hex(6)\n",
        ("tests/team/test_sleep.py", "-k", "straight_on"),
    ),
    Mutant(
        "a function that changed goes on",
        SRC + "team/kernel.py",
        "    if kept.message and Message.load(kept.message).id != message.id:\n",
        "    if False:\n",
        ("tests/team/test_sleep.py", "-k", "changed"),
    ),
    Mutant(
        "an effect whose outcome is unknown is repeated",
        SRC + "team/context.py",
        "            if intent != epoch:\n",
        "            if False:\n",
        ("tests/team/test_sleep.py", "-k", "interrupted"),
    ),
    Mutant(
        "mail that comes while a function is unwound is slept over",
        SRC + "team/context.py",
        "        raise Suspend(seen if mail else None, due)\n",
        "        raise Suspend(len(self.claim.mail) if mail else None, due)\n",
        ("tests/team/test_sleep.py", "-k", "read_again", "-o", "timeout=20"),
    ),
    Mutant(
        "a stale claim may write",
        SRC + "team/stores/table.py",
        '        if (state, epoch, worker) != ("running", claim.epoch, self.worker):\n',
        "        if False:\n",
        ("tests/team/test_turn_stores.py", "-k", "sqlite"),
    ),
    Mutant(
        "mail does not wake a sleeper",
        SRC + "team/stores/table.py",
        "WHEN state='sleeping' AND mail+1>after THEN",
        "WHEN state='sleeping' AND mail>after THEN",
        ("tests/team/test_turn_stores.py", "-k", "sqlite"),
    ),
    Mutant(
        "a frozen worker keeps its turns for ever",
        SRC + "team/stores/sqlite.py",
        "        if late and now > self._patient:\n",
        "        if False:\n",
        ("tests/team/test_durable.py", "-k", "frozen", "-o", "timeout=40"),
    ),
    Mutant(
        "requests of models take up no slot",
        SRC + "team/participants/model_loop.py",
        "            async with self._kernel.slots:\n                with",
        "            if True:\n                with",
        ("tests/team/test_models.py", "-k", "no_slot"),
    ),
    Mutant(
        "an open call of an agent is another call for the next",
        SRC + "team/participants/agent_verbs.py",
        'return await dispatch(self._context, name, arguments, key=f"use:{key}")',
        'return await dispatch(self._context, name, arguments, key=f"use:{key}{id(self)}")',
        ("tests/team/test_verbs.py", "-k", "killed", "-o", "timeout=60"),
    ),
    Mutant(
        "what is below a cancelled turn goes on",
        SRC + "team/stores/memory.py",
        "            waiting += self._children.get(turn, ())\n",
        "",
        ("tests/team/test_turn_stores.py", "-k", "memory"),
    ),
    Mutant(
        "an approver who is silent has said yes",
        SRC + "team/calls.py",
        'return Message(f"no: {error}", "return", "team", context.name, False)',
        'return Message(f"yes: {error}", "return", "team", context.name, True)',
        ("tests/team/test_calls.py", "-k", "silence"),
    ),
    Mutant(
        "what is sent to a model waits for its end",
        SRC + "team/participants/model_loop.py",
        "            await self._enter_mail()\n",
        "",
        ("tests/team/test_models.py", "-k", "next_request"),
    ),
    Mutant(
        "what a tool calls does not hang below it",
        SRC + "team/observing/telemetry.py",
        'return self._span(f"execute_tool {name}", about, current=True)',
        'return self._span(f"execute_tool {name}", about)',
        ("tests/team/test_telemetry.py", "-k", "ag_13"),
    ),
    Mutant(
        "the second answer of a person counts as well",
        SRC + "team/stores/journal.py",
        'key=f"answer:{len(question.refused)}"',
        'key=f"answer:{text}"',
        ("tests/team/test_human.py", "-k", "elsewhere"),
    ),
    Mutant(
        "an agent is ended when its team is closed",
        SRC + "team/participants/agents.py",
        "                    await asyncio.shield(session.detach())\n",
        "                    pass\n",
        ("tests/team/test_agents.py", "-k", "closed", "-o", "timeout=40"),
    ),
)
