"""Writes prompts of a wanted length out of ordinary words, the same for the same seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    CountTokens = Callable[[str], int]

_LIST = (
    "about above across after again air all along also always among and animal answer apple"
    " area arm around ask away baby back bag ball bank base basket bear beautiful because bed"
    " before begin behind bell below best better between big bird black blue board boat body"
    " book both bottom box boy branch bread bridge bright bring brother brown build busy buy"
    " call camp car care carry cat catch center chair change cheap child choose circle city"
    " class clean clear climb clock close cloud coat cold color come cook cool corner count"
    " country course cover cross cup cut dance dark day deep door down draw dream dress drink"
    " drive drop dry during each early earth east easy eat edge eight end engine enough evening"
    " every eye face fact fall family far farm fast father feel few field fill find fine finger"
    " fire first fish five floor flower fly follow food foot forest form forward four free"
    " fresh friend from front fruit full game garden gate get girl give glass go gold good"
    " grass great green ground group grow hair half hall hand happy hard hat have head hear"
    " heart heavy help here high hill history hold home hope horse hot hour house hundred ice"
    " idea inside island job join keep key kind king kitchen know lake land language large last"
    " late laugh law lead learn leave left leg less letter level light line list listen little"
    " live long look lost love low machine make man many map market matter measure meet method"
    " middle milk mind minute modern moment money month moon more morning mother mountain move"
    " much music name nature near need never new next night nine noise north nose note nothing"
    " number ocean off often oil old once one only open orange order other outside over own"
    " page paint paper part party past path pay people person picture piece place plan plant"
    " play point poor power present pull push question quick quiet rain reach read ready real"
    " red rest rich ride right ring river road rock room round run safe salt same sand save"
    " school science sea season seat second see seed sell send seven shape share sharp ship"
    " shoe shop short show side sign silver simple sing sister sit six skin sky sleep slow"
    " small smile snow soft some son song soon sound south space speak spring square stand star"
    " start state station stay step stone stop story street strong study summer sun sure sweet"
    " swim table tail take talk tall teach tell ten test thank thick thing think third thought"
    " three time today together top town train travel tree true turn two under until use"
    " valley very village visit voice wait walk wall want warm wash watch water way wear"
    " weather week west wheel white wide wild wind window winter wish with woman wonder wood"
    " word work world write year yellow young"
)
WORDS = tuple(_LIST.split())
# One token after a space in the vocabularies of the models at hand.
_FILLER = "and"


def write_text(dice: random.Random, num_tokens: int, count_tokens: CountTokens) -> str:
    """Return words that make this many tokens, or one or two fewer where a word is several."""
    words: list[str] = []
    num_written = 0
    while num_written < num_tokens:
        words += dice.choices(WORDS, k=max(1, (num_tokens - num_written) * 3 // 4))
        num_written = count_tokens(" ".join(words))
    while num_written > num_tokens and len(words) > 1:
        words.pop()
        num_written = count_tokens(" ".join(words))
    words += [_FILLER] * (num_tokens - num_written)
    return " ".join(words)
