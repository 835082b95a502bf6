"""Life events of the demonstration: a birth, a move, a death, a correction, each with all that follows from it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Final, TypeVar

from npd.civil_status.v1.civil_status_pb2 import Birth, Parent
from npd.common.v1.chain_pb2 import Link
from npd.common.v1.evidence_pb2 import OUTCOME_DISCLOSED
from npd.common.v1.person_pb2 import SEX_FEMALE, CodedValue, Person, PersonName
from npd.common.v1.place_pb2 import Address, AdminPlace
from npd.residence.v1.residence_pb2 import Joining
from npd_client.errors import Refusal
from services.local import views
from services.local.cast import Cast
from services.local.mesh import LocalMesh
from services.local.offices import wire_date
from services.local.population import SyntheticCitizen
from services.local.sample import TAX
from services.local.sandbox import Stated, a_citizen, date_text, stated
from services.local.story import Story, Unexpected, expect, expect_refusal, until
from services.local.watching import Watch
from services.mesh.core.clock import SystemClock, legal_date
from services.mesh.core.places import list_version, units_of

T = TypeVar("T")

_SECONDS: Final = 10.0
_ADDRESS: Final = "Số 12 đường Lê Lợi"
_LOOKED_AT: Final = ("pin", "children", "permanent_residence", "id_cards")
_OF_A_DEATH: Final = frozenset({"residence.close_residence", "residence.vacate_head", "identity.cancel_card"})


class Life:
    """What happens to some people of the record. `parent` has a child, another citizen moves with a third, and dies."""

    def __init__(self, mesh: LocalMesh, story: Story, cast: Cast, parent: SyntheticCitizen) -> None:
        self._mesh, self._story, self._cast = mesh, story, cast
        self._parent, self._mover, self._other = parent, stated(a_citizen(500)), stated(a_citizen(700))
        self._child = Stated("", "", "")

    def birth(self) -> None:
        """A child is born to the parent, 30 days ago."""
        name = self._parent.person.full_name
        birth = Birth(
            full_name=PersonName(family=name.family, given="An", full=f"{name.family} An"),
            birth_date=wire_date(_today() - timedelta(days=30)),
            sex=SEX_FEMALE,
            place_of_birth=a_commune(),
            registration_place=a_commune(),
            hometown=a_commune(),
            ethnicity=CodedValue(code="01", list_version="2008"),
            nationalities=["VN"],
        )
        parent = Parent(name=name, pin=self._parent.person.pin, nationality="VN")
        (birth.mother if self._parent.person.sex == SEX_FEMALE else birth.father).CopyFrom(parent)
        began = time.monotonic()
        registered = self._registered(lambda: self._cast.registrar.register_birth(birth, entry="KS-1"))
        answered = time.monotonic()
        self._child = Stated(registered.pin, birth.full_name.full, date_text(birth.birth_date))
        child = until("the child to be in the record", lambda: self._record_of(self._child), seconds=_SECONDS)
        seen = time.monotonic()
        expect("the child's number in the record", child.pin, registered.pin)
        self._story.say(
            f"registered in {(answered - began) * 1000:.0f} ms with the number {registered.pin}; in the record "
            f"{(seen - answered) * 1000:.0f} ms later: identity told the number, civil_status the rest"
        )
        until("the parent's record to name the child", self._parent_names_child, seconds=_SECONDS)
        home, birth_act = self._parent.person.permanent_residence, registered.act.act_id
        self._registered(
            lambda: self._cast.residence_office.register_permanent(
                self._child, home, _today(), case="CT-0", follows=birth_act
            )
        )
        self._story.say("the parent's record names the child; the child's residence is registered at the parent's")
        self._say_clock(self._links(birth_act))

    def move(self, watch: Watch) -> None:
        """A citizen founds a household at a new address, another joins it; tax, which watches, applies it."""
        address = Address(place=a_commune(), detail_text=_ADDRESS)
        office, tax = self._cast.residence_office, self._cast.tax
        began = time.monotonic()
        founded = self._registered(
            lambda: office.register_permanent(self._mover, address, _today(), case="CT-1", household=Joining())
        )
        relation = CodedValue(code="9", list_version="provisional")
        joining = Joining(household_id=founded.residence.household_id, relation_to_head=relation)
        office.register_permanent(self._other, address, _today(), case="CT-2", household=joining)
        received = watch.wait_change(lambda change: change.pin == self._mover.pin, _SECONDS)
        change = received.change
        expect("the changed fields that tax sees", list(change.changed_paths), ["permanent_residence"])
        expect("the new address", change.citizen.permanent_residence.detail_text, _ADDRESS)
        expect("who told it", change.source, "residence")
        self._story.say(f"the new address arrived {(received.instant - began) * 1000:.0f} ms after it was sent in")
        watch.wait_change(lambda change: change.pin == self._other.pin, _SECONDS)
        tax.client.acknowledge(tax.ground("DONG-BO", "sync"), applied=watch.cursor)
        until("the directory to say that tax has applied it", self._tax_has_applied, seconds=_SECONDS)
        self._story.say("tax acknowledged it as APPLIED, and the directory shows nothing that it has yet to apply")

    def death(self) -> None:
        """The citizen who moved dies: every room does its part within the law's time."""
        registrar = self._cast.registrar
        act = self._registered(lambda: registrar.register_death(self._mover, _today(), entry="KT-1")).act
        chain = until("what follows from the death", lambda: self._ended_chain(act.act_id), seconds=_SECONDS)
        self._story.show(views.chain(chain))
        record = until("the record to follow", lambda: self._closed_record(), seconds=_SECONDS)
        expect("the identity cards in the record", len(record.id_cards), 0)
        self._say_clock(chain)
        self._story.say(f"`npd chain show {act.act_id}` prints this at any time")
        refusal = expect_refusal(
            "PERSON_DECEASED", lambda: registrar.register_death(self._mover, _today(), entry="KT-2")
        )
        self._story.say(f"the same death a second time: refused, {refusal.reason}")

    def correction(self) -> None:
        """The child was born a year earlier than was registered."""
        former, registrar = self._child, self._cast.registrar
        wrong = _today() - timedelta(days=30)
        right = date(wrong.year - 1, wrong.month, min(wrong.day, 28))
        began = time.monotonic()
        self._registered(lambda: registrar.correct_birth_date(former, right, _today(), entry="CC-1"))
        pin = until("another number", lambda: self._successor_of(former.pin), seconds=_SECONDS)
        self._child = replace(former, pin=pin, birth_date=right.isoformat())
        record = until("the record to know it", lambda: self._record_of(self._child), seconds=_SECONDS)
        seconds = time.monotonic() - began
        expect("the number in the record", record.pin, pin)
        by_former = self._record_of(replace(self._child, pin=former.pin))
        expect("the number that the former one leads to", by_former.pin if by_former else "", pin)
        self._story.say(f"{former.pin} was succeeded by {pin} in {seconds * 1000:.0f} ms; both find the record")

    def _registered(self, register: Callable[[], T]) -> T:
        """Register an act about people of whom the office's room may be learning in this moment."""

        def attempt() -> T | None:
            try:
                return register()
            except Refusal as refusal:
                if refusal.reason != "PERSON_UNKNOWN":
                    raise
                return None

        return until("the room to know the person", attempt, seconds=_SECONDS)

    def _record_of(self, citizen: Stated) -> Person | None:
        """Of the citizen's record, what a story tells of; None while nobody matches."""
        answer = self._cast.portal.look_up(citizen, _LOOKED_AT, case="CN-3")
        return answer.citizen if answer.outcome == OUTCOME_DISCLOSED else None

    def _parent_names_child(self) -> bool | None:
        record = self._record_of(stated(self._parent))
        if record is None:
            raise Unexpected("the parent is not in the record any more")
        return self._child.pin in {child.pin for child in record.children} or None

    def _closed_record(self) -> Person | None:
        record = self._record_of(self._mover)
        return record if record and not record.HasField("permanent_residence") and not record.id_cards else None

    def _successor_of(self, pin: str) -> str | None:
        current = self._cast.identity_office.resolve(pin, case="CC-1").current_pin
        return current if current != pin else None

    def _tax_has_applied(self) -> bool | None:
        [tax] = [each for each in self._cast.operator.connections() if each.name == TAX.title]
        return tax.unapplied_count == 0 or None

    def _ended_chain(self, act_id: str) -> Sequence[Link] | None:
        """The links of a death's chain, once every room has done its part."""
        links = self._links(act_id)
        return links if {link.act for link in links} >= _OF_A_DEATH else None

    def _links(self, act_id: str) -> Sequence[Link]:
        """What all rooms know of a chain, by time."""
        links = [link for room in self._mesh.endpoints for link in self._cast.operator.links(room, act_id)]
        return sorted(links, key=lambda link: link.link_time.ToNanoseconds())

    def _say_clock(self, chain: Sequence[Link]) -> None:
        """Whether the legal clock that a chain's first act started was met."""
        [clock] = [clock for link in chain for clock in link.clocks]
        done = next(link for link in chain if link.act == clock.end_act)
        expect("whether the legal clock was met", done.link_time.ToDatetime() <= clock.due_time.ToDatetime(), True)
        self._story.say(f"{clock.title}: met, {clock.provision}")


def a_commune() -> AdminPlace:
    """A commune of the list in force today."""
    version = list_version(_today())
    code = next(unit.code for unit in units_of(version).values() if unit.level == "COMMUNE")
    return AdminPlace(unit_code=code, unit_list_version=version)


def _today() -> date:
    return legal_date(SystemClock().now())
